"""Ready searches are chosen in the menu, and findings open their events."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dashboard import ready, times
from dashboard.panels import ready as panel
from dashboard.queries import Filter
from dashboard.state import View
from sandbox.company import Company
from tests.dashboard.conftest import ANCHOR
from tests.dashboard.shown import App, address, shown_text


def test_a_ready_search_shows_its_purpose_and_limits_above_the_events(
    app: App, filled: Path
) -> None:
    page = app(filled)
    page.query_params["ready"] = "mfa-removed"
    page.query_params["q"] = ready.SEARCHES["mfa-removed"].text
    page.run()
    assert not page.exception
    text = shown_text(page)
    assert "MFA removed or reset" in text
    assert "Cloudflare and Opsgenie do not record this." in text
    page.button(key="ready_close").click().run()
    assert "ready" not in address(page)
    assert "q" in address(page)


def test_findings_of_a_correlation_are_listed_and_open_their_events(
    app: App, live_lake: Path
) -> None:
    page = app(live_lake)
    page.query_params["ready"] = "mass-download"
    page.query_params["q"] = ready.SEARCHES["mass-download"].text
    page.query_params["range"] = "30d"
    page.run()
    assert not page.exception
    found = page.dataframe[0].value
    insider = Company(1).one("Sales").email
    assert insider in set(found["actor"])
    row = found[found["actor"] == insider].iloc[0].to_dict()
    row |= {"first": ANCHOR - timedelta(days=6), "last": ANCHOR - timedelta(days=5)}
    view = panel.opened(View(ready="mass-download", text="x"), row | {"field": None})
    assert view.filters == (Filter(field="actor", value=str(insider)),)
    assert view.range == times.between(
        ANCHOR - timedelta(days=6, minutes=90), ANCHOR - timedelta(days=5, minutes=-90)
    )
    assert (view.ready, view.text) == ("mass-download", "x")
