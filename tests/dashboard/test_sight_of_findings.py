"""Visitors of a limited role see the findings of their integrations alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dashboard import found, two_integrations
from tests.dashboard.shown import App, shown_text
from tests.dashboard.test_sight import marks, root, script, sent, visit  # noqa: F401 fixtures


@pytest.mark.parametrize("place", [0, 2])
def test_a_link_to_a_finding_of_other_integrations_is_a_wrong_one(
    app: App,
    root: Path,  # noqa: F811
    sent: list[bytes],  # noqa: F811
    place: int,
) -> None:
    app(root)
    uid = two_integrations.finding_uids(root)[found.rule_id(place)]
    page = visit(script("findings"), "helpdesk", {"id": uid})
    assert "The lake has no such finding" in shown_text(page)
    assert marks(sent) == set()
    page = visit(script("findings"), "audit", {"id": uid})
    assert "zebra" in marks(sent)


def test_a_limited_visitor_sees_decisions_and_exceptions_about_their_own(
    app: App,
    root: Path,  # noqa: F811
    sent: list[bytes],  # noqa: F811
) -> None:
    app(root)
    uid = two_integrations.finding_uids(root)[found.rule_id(1)]
    page = visit(script("findings"), "helpdesk", {"id": uid})
    assert "closed" in shown_text(page)
    page = visit(script("findings"), "helpdesk", {"show": "exceptions"})
    assert "entity = plain and integration = okta" in shown_text(page)
    assert marks(sent) == set()
