"""A search opens no file that cannot contain its words, and finds what a scan of all files does."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import queries
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Query
from dashboard.sight import Sight
from pipelines.lake import maintenance, tables
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 9, 12, tzinfo=UTC)
EVER = Query(since=NOON - timedelta(days=9), until=NOON + timedelta(days=1))
ID = "81726354453627180000"
ODD = "\u0130stanbul \u200badmin \u0410\u0411\u0412\u0413\u0414\u0415 Stra\u00dfe"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine days, the last of which is not over, with an id in one event of the third."""
    root = tmp_path_factory.mktemp("indexed")
    rows = small_lakes.events(400, end=NOON, days=8.4)
    for number, row in enumerate(rows):
        row["correlation_id"] = str(10**19 + number * 1_234_567_891_011)
    rows[120] |= {"correlation_id": ID, "message": ODD}
    rows[399] |= {"session_id": "s-today-0123456789"}
    small_lakes.append(root, rows)
    list(maintenance.maintain(tables.Lake(str(root)), [], NOON.date()))
    return root


@pytest.fixture
def opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], tuple[int, int]]]:
    """Return the number of events of a search, and how many files were read for it."""
    snapshot = look(root)
    read: list[str] = []
    real = snapshot.counts._door.read

    def reading(paths: list[str], **options: str) -> pl.LazyFrame:
        read.extend(paths)
        return real(paths, **options)

    monkeypatch.setattr(snapshot.counts._door, "read", reading)

    def search(text: str) -> tuple[int, int]:
        read.clear()
        found = sum(n for _, n in queries.days(snapshot.counts, asked(text)))
        return found, len(read)

    yield search


def look(root: Path, sight: Sight | None = None) -> Snapshot:
    snapshot = Lake(str(root), {}, None, *([sight] if sight else [])).look()
    assert snapshot
    return snapshot


def asked(text: str) -> Query:
    return Query(since=EVER.since, until=EVER.until, text=text)


def scanned(snapshot: Snapshot, text: str) -> int:
    found = queries.matching(snapshot.events, asked(text)).select(pl.len())
    count: int = found.collect().item()
    return count


@pytest.mark.parametrize(
    ("text", "events", "files"),
    [
        (ID, 1, 2),  # its own, and that of today, which is not indexed
        (ID[2:16], 1, 2),
        (f'"{ID}" OR s-today-0123456789', 2, 2),
        ("99887766554433221100", 0, 1),
        (f"{ID} 99887766554433221100", 0, 1),
        ("s-today-0123456789", 1, 1),
        ('"nothing said like this"', 0, 0),  # the trigrams of today's file are not known either
    ],
)
def test_a_rare_text_opens_only_files_that_can_have_it(
    opened: Callable[[str], tuple[int, int]], text: str, events: int, files: int
) -> None:
    found, read = opened(text)
    assert found == events
    assert read <= max(files, 1)


@pytest.mark.parametrize(
    "text", [f"-{ID}", f"NOT ({ID} OR 99999999999999999999)", f"{ID} OR okta", "user*in"]
)
def test_a_text_that_other_events_match_as_well_excludes_nothing(root: Path, text: str) -> None:
    snapshot = look(root)
    found = sum(n for _, n in queries.days(snapshot.counts, asked(text)))
    assert found == scanned(snapshot, text) > 1


def test_searches_find_what_a_scan_of_all_files_does(root: Path) -> None:
    dice, snapshot = random.Random(5), look(root)
    shown = snapshot.events.select("correlation_id", "message", "user_agent", "actor_email")
    texts = [text for row in shown.collect().rows() for text in row if text]
    for text in [ODD, ODD.lower(), ODD.upper(), ID, *dice.choices(texts, k=30)]:
        start = dice.randrange(len(text) // 2)
        part = text[start : start + dice.randrange(6, 24)].replace('"', "").replace("\\", "")
        for word in (part, part.upper(), part + "9"):
            quoted = f'"{word}"'
            found = sum(n for _, n in queries.days(snapshot.counts, asked(quoted)))
            assert found == scanned(snapshot, quoted), word


def test_a_lake_of_an_older_auditlake_is_searched_without_the_index(
    root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root, tmp_path / "lake")
    shutil.rmtree(tmp_path / "lake" / "text_index")
    snapshot = look(tmp_path / "lake")
    assert sum(n for _, n in queries.days(snapshot.counts, asked(ID))) == 1


def test_the_index_of_a_limited_visitor_shows_no_other_event(root: Path) -> None:
    snapshot = look(root)
    (one,) = queries.matching(snapshot.events, asked(ID)).collect().to_dicts()
    for integrations, events in (({one["integration"]}, 1), ({"another"}, 0)):
        seen = look(root, Sight(integrations=frozenset(integrations)))
        assert sum(n for _, n in queries.days(seen.counts, asked(ID))) == events
