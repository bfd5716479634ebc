"""Chosen rows are counted in the groups that their codes name, whatever the order of the groups."""

from __future__ import annotations

import polars as pl
import pytest

from dashboard import row_counts
from pipelines.lake import rollup, row_codes
from pipelines.schemas import EVENTS, ROLLUPS
from tests.dashboard import small_lakes

PLACES = [(ip, country) for ip in ("1.1.1.1", "2.2.2.2", None) for country in ("DE", "", None)]


def stored(files: dict[int, pl.DataFrame]) -> pl.DataFrame:
    """Return rows of `rollups` for the files, in reverse order."""
    rows = [
        row_codes.coded(events).with_columns(file=pl.lit(file)) for file, events in files.items()
    ]
    every = pl.concat([pl.DataFrame(schema=ROLLUPS), *rows], how="diagonal_relaxed")
    return every.reverse()


@pytest.fixture(scope="module")
def files() -> dict[int, pl.DataFrame]:
    rows = [
        small_lakes.blank() | {"source_ip": ip, "country": country, "actor_id": f"u{n % 4}"}
        for n, (ip, country) in enumerate(PLACES * 2)
    ]
    events = pl.DataFrame(rows, schema=EVENTS)
    return {3: events[:4], 7: events[4:15], 8: events[15:]}


def counted(
    files: dict[int, pl.DataFrame], part: str, filters: row_counts.Filters, rows: list[int] | None
) -> list[tuple[object, ...]]:
    def of(part: str, numbers: list[int]) -> pl.LazyFrame:
        kept = pl.col("part") == part, pl.col("file").is_in(numbers)
        return stored(files).lazy().filter(*kept)

    chosen = None if rows is None else pl.Series(rows, dtype=pl.UInt32)
    sizes = {file: events.height for file, events in files.items()}
    found = row_counts.counted(of, sizes, [part], filters, chosen)[part]
    columns = rollup.PARTS[part]
    return sorted(found.group_by(columns).agg(pl.col("n").sum()).rows(), key=str)


def plain(events: pl.DataFrame, part: str) -> list[tuple[object, ...]]:
    return sorted(rollup.counted(events.lazy(), part).drop("date").collect().rows(), key=str)


@pytest.mark.parametrize("part", row_codes.PARTS)
@pytest.mark.parametrize("rows", [None, [], [0], [17, 2, 5, 4], list(range(18))])
def test_the_chosen_rows_are_counted(
    files: dict[int, pl.DataFrame], part: str, rows: list[int] | None
) -> None:
    every = pl.concat(files.values())
    expected = every if rows is None else every[rows] if rows else every.clear()
    assert counted(files, part, {}, rows) == plain(expected, part)


@pytest.mark.parametrize("times", [0, 1, 1000])
def test_the_groups_of_few_rows_are_those_of_many(
    files: dict[int, pl.DataFrame], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_counts, "_FEW", times)
    chosen = [1, 4, 15, 17]
    assert counted(files, "where", {}, chosen) == plain(pl.concat(files.values())[chosen], "where")


def test_filters_on_groups_choose_rows_of_all_of_them(files: dict[int, pl.DataFrame]) -> None:
    filters = {"who": [pl.col("actor_id") == "u1"], "where": [pl.col("country").is_null()]}
    every = pl.concat(files.values())
    for part in row_codes.PARTS:
        wanted = every.filter(pl.col("actor_id") == "u1", pl.col("country").is_null())
        assert counted(files, part, filters, None) == plain(wanted, part)
        assert counted(files, part, {"who": [pl.lit(value=False)]}, None) == []
