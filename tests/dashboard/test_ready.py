"""Ready searches find the attacks that the sandbox plants, in every vendor that records them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from dashboard import ready
from dashboard.ready import Ready
from pipelines import registry
from pipelines.search import compiler, parser, pieces
from sandbox.company import Act, Company
from sandbox.server import services
from tests.dashboard.conftest import ANCHOR

PLANTED: list[tuple[str, Act]] = [
    ("admin-rights", "grant_admin"),
    ("mfa-removed", "reset_mfa"),
    ("keys-created", "create_token"),
    ("oauth-grants", "create_token"),
    ("mail-forwarding", "forward_mail"),
    ("audit-settings", "weaken_policy"),
    ("mass-download", "download"),
    ("mass-download", "export"),
    ("new-countries", "sign_in"),
    ("failed-then-successful", "sign_in"),
]
# Acts that a vendor shows as another fact: Google's token log has grants, not keys, and the others'
# new keys are no grants.
ELSEWHERE = {
    ("keys-created", "google_workspace"),
    *(("oauth-grants", kind) for kind in ready.KINDS if kind != "google_workspace"),
}
# Less than it keeps, whose end moves while the lake is filled.
KEPT = {"office_365": timedelta(days=6)}


@pytest.fixture(scope="module")
def events(live_lake: Path) -> pl.DataFrame:
    table = DeltaTable(live_lake / "events").to_pyarrow_table()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.filter(pl.col("time") < ANCHOR)


def found(events: pl.DataFrame, search: Ready) -> pl.DataFrame:
    conditions = compiler.expressions(parser.parse(search.text))
    return events.filter(pl.all_horizontal(True, *conditions))


def shows(kind: str, act: Act) -> bool:
    """Return True if the simulated vendor records this step of an attack."""
    return any(act in habit.acts for one in services()[kind].streams for habit in one.habits)


@pytest.mark.parametrize(("key", "act"), PLANTED)
def test_planted_attacks_are_found_in_every_vendor_that_records_them(
    events: pl.DataFrame, key: str, act: Act
) -> None:
    steps = [step.time for step in Company(1).attacks(ANCHOR) if step.act == act]
    rows = found(events, ready.SEARCHES[key])
    vendors = [kind for kind in ready.KINDS if shows(kind, act) and (key, kind) not in ELSEWHERE]
    if key == "new-countries":
        vendors = [kind for kind in vendors if kind in ready.SEARCHES[key].kinds]
    assert any(steps) and vendors
    for kind in vendors:
        times = rows.filter(kind=kind)["time"]
        kept = [step for step in steps if ANCHOR - step < KEPT.get(kind, timedelta(days=90))]
        near = [any(abs(time - step) < timedelta(seconds=2) for time in times) for step in kept]
        assert all(near), (key, kind)
        assert kind in ready.SEARCHES[key].kinds


@pytest.mark.parametrize("key", ready.SEARCHES)
def test_events_are_found_only_of_vendors_that_record_the_fact(
    events: pl.DataFrame, key: str
) -> None:
    search = ready.SEARCHES[key]
    rows = found(events, search)
    assert set(rows["kind"].unique()) <= search.kinds
    lacking = set(ready.KINDS) - search.kinds
    unseen = " ".join(search.unseen())
    assert all(ready.KINDS[kind] in unseen for kind in lacking)


@pytest.mark.parametrize("key", [key for key, search in ready.SEARCHES.items() if not search.find])
def test_a_search_of_rare_acts_finds_few_other_events(events: pl.DataFrame, key: str) -> None:
    assert found(events, ready.SEARCHES[key]).height < 0.03 * events.height


def test_all_vendors_are_known() -> None:
    assert set(ready.KINDS) == set(registry.kinds())


def test_located_vendors_are_those_whose_records_have_countries(events: pl.DataFrame) -> None:
    located = events.filter(pl.col("country") != "")["kind"].unique().to_list()
    assert set(located) == ready.SEARCHES["new-countries"].kinds


def test_a_search_is_one_chip() -> None:
    for search in ready.SEARCHES.values():
        assert len(pieces.split(search.text)) <= 3
