"""The outliers of a search, as the page shows them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.dashboard import small_lakes
from tests.dashboard.shown import App, shown_text
from tests.dashboard.small_lakes import HOSTILE


@pytest.fixture
def attacked(tmp_path: Path) -> Path:
    """A lake in which a new address failed to sign in 40 times in the last hour."""
    now, dice = datetime.now(UTC), random.Random(1)
    tries = [
        small_lakes.event(5000 + n, now - timedelta(minutes=30, seconds=n), dice)
        | {"source_ip": "198.51.100.7", "outcome": "failure", "outcome_reason": HOSTILE}
        for n in range(40)
    ]
    small_lakes.append(tmp_path, [*small_lakes.events(600, end=now - timedelta(hours=1)), *tries])
    return tmp_path


def test_an_attacking_address_stands_out_as_new(app: App, attacked: Path) -> None:
    page = app(attacked)
    page.query_params["tab"] = "out"
    page.query_params["range"] = "1h"
    page.run()
    assert not page.exception
    found = page.dataframe[-1].value.set_index("value")
    assert found.loc["198.51.100.7", "field"] == "IP address"
    assert found.loc["198.51.100.7", "n"] == 40
    assert found.loc["198.51.100.7", "share"] > 90
    assert found.loc["198.51.100.7", "first"].startswith("NEW · ")
    assert "the seven days before" in shown_text(page)


def test_the_order_can_be_changed(app: App, attacked: Path) -> None:
    page = app(attacked)
    page.query_params["tab"] = "out"
    page.query_params["range"] = "1h"
    page.run()
    page.button_group(key="order").set_value("lift").run()
    assert not page.exception
    found = page.dataframe[-1].value
    old = ~found["first"].str.startswith("NEW")
    # New values come first; within both parts the order is by lift.
    assert old.tolist() == sorted(old)
    for part in (found[old], found[~old]):
        assert part["lift"].tolist() == sorted(part["lift"], reverse=True)


def test_without_earlier_events_there_is_nothing_to_compare_with(app: App, tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(30, end=datetime.now(UTC), days=0.02))
    page = app(tmp_path)
    page.query_params["tab"] = "out"
    page.query_params["range"] = "1h"
    page.run()
    assert not page.exception
    assert "no events in the seven days before" in shown_text(page)
