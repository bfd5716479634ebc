"""The aggregates of a data file equal its rows, and its trigrams rule out no word it contains."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import rollup, row_codes
from pipelines.schemas import EVENTS, ROLLUPS
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 1, 12, 34, tzinfo=UTC)
DAYS = 3


def stored(rows):
    """Return events as they are in the lake, with the number of their data file: one per day."""
    found = pl.DataFrame([{**row, "date": row["time"].date()} for row in rows], schema=EVENTS)
    day = (pl.col("date") - found["date"].min()).dt.total_days()
    return found.with_columns(
        ingested_at="time", file=day, path=pl.format("date={}/part.parquet", "date")
    )


@pytest.fixture(scope="module")
def events():
    return stored(small_lakes.events(300, end=NOON, days=DAYS))


@pytest.fixture(scope="module")
def rolled(events):
    groups = [
        row_codes.coded(day).with_columns(pl.lit(file).alias("file"), pl.lit(date).alias("date"))
        for (file, date), day in events.group_by("file", "date", maintain_order=True)
    ]
    no_trigrams = pl.DataFrame(schema=ROLLUPS).select("file", "date")
    return rollup.rolled(events.lazy(), no_trigrams, pl.concat(groups))


def test_each_part_counts_every_row_once(events, rolled):
    per_file = dict(events.group_by("file").len().iter_rows())
    for part in (rollup.FILES, *rollup.PARTS):
        counted = rolled.filter(part=part).group_by("file").agg(pl.col("n").sum())
        assert dict(counted.iter_rows()) == per_file


@pytest.mark.parametrize("part", rollup.PARTS)
def test_the_counts_of_a_part_are_those_of_its_columns(events, rolled, part):
    columns = ["date", *rollup.PARTS[part]]
    hourly = events.with_columns(pl.col("time").dt.truncate("1h"))
    if part == rollup.WHO:
        hourly = hourly.with_columns(
            integration=pl.when(pl.col("actor_email").is_null()).then("integration")
        )
    expected = hourly.group_by(columns).len("n").cast({"n": pl.Int64})
    counted = rolled.filter(part=part).group_by(columns).agg(pl.col("n").sum())
    assert counted.sort(columns).equals(expected.sort(columns))


def test_only_accounts_without_an_address_are_counted_by_integration(events):
    two = pl.concat([events.head(1), events.head(1).with_columns(integration=pl.lit("other"))])
    with_address = two.with_columns(actor_email=pl.lit("ada@example.com"), actor_id=pl.lit("1"))
    without = with_address.with_columns(actor_email=pl.lit(None, pl.String))
    empty = with_address.with_columns(actor_email=pl.lit(""))
    for rows, integrations in (
        (with_address, [None]),
        (without, sorted(two["integration"])),
        (empty, sorted(two["integration"])),
    ):
        counted = rollup.counted(rows.lazy(), rollup.WHO).collect()
        assert sorted(counted["integration"], key=str) == integrations
        assert counted["n"].sum() == 2


def test_a_file_is_described_by_its_first_and_last_time(events, rolled):
    described = rolled.filter(part=rollup.FILES).select("file", "since", "until").sort("file")
    expected = events.group_by("file").agg(since=pl.col("time").min(), until=pl.col("time").max())
    assert described.equals(expected.sort("file").cast({"file": pl.Int64}))


def test_every_target_of_an_event_is_counted_once(events):
    also = [{"id": "x", "name": name, "type": None} for name in ("Folder", "Folder", None)]
    more = events.with_columns(targets=pl.Series([also] * events.height, dtype=EVENTS["targets"]))
    counted = rollup.targets(more.lazy(), "file").collect()
    per_file = dict(events.group_by("file").len().iter_rows())
    for value in ("Folder", "x"):
        assert dict(counted.filter(value=value).select("file", "n").iter_rows()) == per_file
    assert {"Folder", "x", *events["target_name"]} == {*counted["value"]}
    none = events.head(1).with_columns(target_name=None, target_id=None, targets=None)
    assert rollup.targets(none.cast(dict(EVENTS)).lazy()).collect().rows() == [(None, 1)]


def test_columns_are_counted_together_only_within_one_part():
    assert rollup.part_of([]) == rollup.FILES
    assert rollup.part_of(["outcome", "time"]) == "what"
    assert rollup.part_of(["country"]) == "where"
    assert rollup.part_of(["country", "outcome"]) is None
    assert rollup.part_of(["actor_email", "person"]) == rollup.WHO
    assert rollup.part_of(["actor_email", "integration"]) is None
    assert rollup.part_of(["message"]) is None


def trigrams(**columns):
    """Return column -> the trigrams of one event with these values."""
    row = pl.DataFrame([small_lakes.blank() | columns], schema=EVENTS)
    return {name: None if found is None else {*found.split("\0")}
            for name, found in rollup.texts(row).iter_rows()}  # fmt: skip


words = st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cs"]), max_size=20)


@given(words, words, words)
def test_a_word_that_occurs_is_never_ruled_out(before, word, after):
    text = before + word + after
    for found in (word.upper(), word.lower(), word):
        if found.lower() in text.lower():
            assert rollup.grams(found) <= trigrams(message=text)["message"]


def test_a_word_that_does_not_occur_is_ruled_out():
    found = trigrams(message="User signed in", actor_name=None)
    assert not rollup.grams("deleted") <= found["message"]
    assert not rollup.grams("signed") <= found["actor_name"]


def test_names_of_further_targets_are_found():
    names = [{"id": "1", "name": name, "type": "App"} for name in ("Payroll", "Wiki", None)]
    found = trigrams(target_name="Payroll", targets=names)
    assert rollup.grams("wiki") <= found[rollup.TARGETS]
    assert not rollup.grams("payroll") <= found[rollup.TARGETS]
    assert rollup.grams("payroll") <= found["target_name"]


def test_a_column_with_too_many_trigrams_rules_nothing_out(monkeypatch):
    monkeypatch.setattr(rollup, "_MOST_GRAMS", 3)
    found = trigrams(message="abcde", action="abcdef")
    assert (found["message"], found["action"]) == ({"abc", "bcd", "cde"}, None)


@pytest.mark.parametrize("word", ["", "ab", "gr\u00fc\u00dfe", "a\0b", "\u212ab"])
def test_short_and_foreign_words_are_not_looked_up(word):
    assert rollup.grams(word) == frozenset()
