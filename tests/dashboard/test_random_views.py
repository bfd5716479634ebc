"""Every page shows whatever a link asks of it, without an error."""

from __future__ import annotations

import os
import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from dashboard import entities, fields, times
from dashboard.listing import Order
from dashboard.queries import Filter
from dashboard.state import TABS, Opened, View, params
from dashboard.times import Last, Range
from pipelines.lake import coverage, tables
from pipelines.lake.coverage import Entry
from tests.dashboard import found, small_lakes
from tests.dashboard.shown import App, newest_event

VIEWS = int(os.environ.get("AUDITLAKE_VIEWS", "12"))
NOW = datetime.now(UTC).replace(microsecond=0)
TEXTS = (
    *("", "", "", "okta", "nowhere-at-all", "actor:*", '"signed in"', "(", "\u0430\u200b"),
    *("outcome:failure or city:london", "not integration:okta", "source_ip:198.51.100.0/24"),
    "time:>2026-01-01",
)
VALUES = ("okta", "", "failure", "nobody", "a:b", "\u202eevil", "'\"`<>\\", "x" * 3000)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events, some of them hostile, of streams with gaps of every length."""
    root = tmp_path_factory.mktemp("random")
    rows = small_lakes.events(1200, end=NOW, days=20)
    hostile = [small_lakes.hostile(900 + n, NOW - timedelta(hours=n)) for n in range(8)]
    small_lakes.append(root, [*rows, *hostile])
    findings = found.spread(root)
    found.write(root, [findings[0] | {"revision": 1, "provisional": True}])
    dice = random.Random(3)
    for integration, stream in (("okta", "system_log"), ("google", "drive"), ("entra", "sign_ins")):
        ends = sorted(NOW - timedelta(seconds=10 ** dice.uniform(0, 6.3)) for _ in range(12))
        spans = zip(ends[::2], ends[1::2], strict=True)
        entries = [Entry(since=since, until=until, asked_at=NOW) for since, until in spans]
        coverage.record(tables.Lake(str(root)), tables.StreamKey(integration, stream), entries)
    return root


def view(dice: random.Random, opened: Opened) -> View:
    names = [*fields.NAMES]
    columns = tuple(dice.sample(names, dice.randrange(0, 6)))
    filters = [
        Filter(field=dice.choice(names), value=dice.choice(VALUES), negated=dice.random() < 0.3)
        for _ in range(dice.choice((0, 0, 0, 1, 2)))
    ]
    return View(
        range=span(dice),
        text=dice.choice(TEXTS),
        filters=tuple(filters),
        by=dice.choice(names),
        tab=dice.choice([*TABS]),
        sort=Order(field=dice.choice(names), descending=dice.random() < 0.5),
        columns=columns,
        page=dice.choice((1, 1, 1, 2, 900)),
        zone=dice.choice(("", "UTC", "Europe/London", "Australia/Lord_Howe")),
        held=dice.choice((None, None, NOW - timedelta(days=2), NOW + timedelta(days=2))),
        opened=dice.choice((None, None, opened, Opened(date=NOW.date(), uid="nowhere"))),
    )


def span(dice: random.Random) -> Range:
    length = timedelta(seconds=10 ** dice.uniform(0, 8.5))
    if dice.random() < 0.5:
        return Last(count=dice.choice((1, 5, 90, 1000, 10_000)), unit=dice.choice("mhd"))
    since = NOW + timedelta(days=dice.choice((0, 3)), seconds=-(10 ** dice.uniform(0, 8)))
    return times.between(since, since + length)


@pytest.mark.parametrize("seed", range(VIEWS))
def test_any_view_is_shown(app: App, lake: Path, seed: int) -> None:
    day, uid = newest_event(lake)
    opened = Opened(date=date.fromisoformat(day), uid=uid)
    check(app(lake), params(view(random.Random(seed), opened)))


def check(page: AppTest, given: dict[str, list[str]]) -> None:
    """Run a page with these parameters."""
    for name, values in given.items():
        page.query_params[name] = values
    page.run()
    assert not page.exception, given


def link(dice: random.Random, uid: str) -> dict[str, list[str]]:
    """Return parameters of the pages other than Explore."""
    known = {
        "range": [times.show(span(dice)), "soon"],
        "kind": [*entities.KINDS, "dog"],
        "v": [*VALUES, "ada@acme.example", "198.51.100.7"],
        "show": ["open", "mine", "closed", "all", "noise", "coverage", "exceptions", "nothing"],
        "id": [uid, "nowhere"],
        "level": ["high", "low", "loud"],
        "rule": [*VALUES],
        "in": ["okta", "nowhere"],
        "entity": [*VALUES],
        "hidden": ["1"],
        "low": ["1"],
    }
    chosen = dice.sample([*known], dice.randrange(0, 5))
    return {name: [dice.choice(known[name])] for name in chosen}


@pytest.mark.parametrize("page", ["findings", "entities", "sources", "integrity", "access"])
@pytest.mark.parametrize("seed", range(VIEWS // 3))
def test_any_link_to_another_page_is_shown(app: App, lake: Path, page: str, seed: int) -> None:
    app(lake)
    code = f"from dashboard.screens import {page}\n{page}.show()"
    uid = pl.read_delta(str(lake / "findings"))["finding_uid"][0]
    check(AppTest.from_string(code, default_timeout=120), link(random.Random(seed), uid))
