"""Requests outside Streamlit need the browser and the sign-in of a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dashboard import visits
from dashboard.sight import EVERYTHING, Sight
from dashboard.visits import Admitted

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ADA = {visits.COOKIE: "one", "_streamlit_user": "ada", "theme": "dark"}


def test_a_session_is_the_browser_with_its_sign_in() -> None:
    session = visits.session(ADA)
    assert session
    assert session == visits.session(ADA | {"theme": "light"})
    assert session != visits.session(ADA | {"_streamlit_user": "eve"})
    assert session != visits.session(ADA | {"_streamlit_user__1": "rest"})
    assert session != visits.session(ADA | {visits.COOKIE: "two"})
    assert visits.session({"_streamlit_user": "ada"}) == ""


def test_a_session_is_admitted_for_an_hour_after_its_last_page() -> None:
    admitted = Admitted()
    admitted.note("ada", NOW, EVERYTHING)
    admitted.note("", NOW, EVERYTHING)
    assert admitted.sight("ada", NOW + timedelta(minutes=59)) == EVERYTHING
    assert admitted.sight("ada", NOW + timedelta(hours=1)) is None
    assert admitted.sight("", NOW) is None
    assert admitted.sight("eve", NOW) is None


def test_a_session_sees_what_its_last_page_was_allowed_to_show() -> None:
    admitted, okta = Admitted(), Sight(integrations=frozenset({"okta"}))
    admitted.note("ada", NOW, EVERYTHING)
    admitted.note("ada", NOW, okta)
    assert admitted.sight("ada", NOW) == okta


def test_a_browser_gets_a_cookie_that_no_script_and_no_other_site_can_use() -> None:
    cookie = visits.new_cookie()
    assert cookie.startswith(f"{visits.COOKIE}=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert cookie != visits.new_cookie()
