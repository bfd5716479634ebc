"""Counts from rollups equal those of a plain scan, whatever has happened to the files."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from dashboard import counts, fields, listing, patience, queries, times
from dashboard.lake import Lake, Snapshot
from dashboard.listing import Order
from dashboard.patience import TooLong
from dashboard.queries import Filter, Query
from pipelines.lake import maintenance, per_file, rollup, rollup_table, tables
from pipelines.schemas import EVENTS
from pipelines.search import compiler
from pipelines.search.fields import SEARCHED, TARGETS
from pipelines.search.terms import Term, Word
from tests.dashboard import small_lakes
from tests.tiers import crossed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIRST = NOW - timedelta(days=6)
TODAY = NOW.date()
Ask = Callable[[queries.Counts, Query], pl.DataFrame]
RENAMED = "rossum@acme.example"


@dataclass(frozen=True, repr=False)
class Plain:
    """Counts without rollups: all events, one by one."""

    all: pl.DataFrame

    def rows(self, query: Query, *columns: str, tick: timedelta = timedelta()) -> pl.LazyFrame:
        found = queries.matching(self.all.lazy(), query)
        return found.select("date", *columns, n=pl.lit(1, pl.Int64))

    def sums(self, query: Query, value: pl.Expr, *columns: str) -> pl.LazyFrame:
        return self.rows(query, *columns).with_columns(value=value)

    def targets(self, query: Query) -> pl.LazyFrame:
        """Look at each event in plain Python, since the counts share one expression."""
        values = [{*_targets_of(row)} or {None} for row in self.events(query).collect().to_dicts()]
        found = pl.Series("value", [one for each in values for one in each], dtype=pl.String)
        return found.to_frame().lazy().with_columns(n=pl.lit(1, pl.Int64))

    def events(self, query: Query, days: Collection[date] | None = None) -> pl.LazyFrame:
        found = queries.matching(self.all.lazy(), query)
        return found if days is None else found.filter(pl.col("date").is_in(days))

    def parts(self, query: Query) -> Iterator[pl.LazyFrame]:
        yield self.events(query)

    def sizes(self, query: Query) -> list[tuple[date, int]]:
        return self.all["date"].value_counts().sort("date", descending=True).rows()


def _targets_of(row: small_lakes.Row) -> list[str]:
    texts = [row["target_name"] or row["target_id"]]
    texts += [one["name"] or one["id"] for one in row["targets"] or ()]
    return [text for text in texts if text]


@dataclass(frozen=True, repr=False)
class Stage:
    snapshot: Snapshot
    plain: Plain
    known: int
    """How many of its files are rolled up."""


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few days are several portions, and a search is made in several parts."""
    monkeypatch.setattr(counts, "_PORTION", timedelta(days=2))
    monkeypatch.setattr(counts, "_AT_ONCE", 60)


def look(root: Path) -> Stage:
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    known, _ = rollup_table.rolled_up(tables.Lake(str(root)))
    files = per_file.event_files(tables.Lake(str(root)))
    there = files.join(known, on="path", how="semi").height
    return Stage(snapshot, Plain(snapshot.events.collect()), there)


def tidied(root: Path, today: date = TODAY) -> None:
    list(maintenance.maintain(tables.Lake(str(root)), [], today))


def append(root: Path, first: int, n: int, **how: float) -> None:
    rows = small_lakes.events(n, end=NOW, first=first, seed=first, **how)
    small_lakes.append(root, [_of_a_person(row, number) for number, row in enumerate(rows)])


def _of_a_person(row: small_lakes.Row, number: int) -> small_lakes.Row:
    """Return the event, now and then without its address, and one account renamed meanwhile."""
    if number % 5 < 2:
        second = {"id": "folder-1", "name": "" if number % 5 else "Folder", "type": "Folder"}
        row = row | {"targets": [*row["targets"], second, row["targets"][0]]}
    if number % 4 == 0:
        return row | {"actor_email": None, "actor_name": None if number % 8 else "Somebody"}
    if row["actor_id"] == "00uguido" and row["time"] < NOW - timedelta(days=3):
        return row | {"actor_email": RENAMED}
    return row


def replace(root: Path, day: date) -> None:
    """Change one day of an integration, as a newer mapping would."""
    events = Lake(str(root), {}).look()
    assert events
    ours = (pl.col("date") == day) & (pl.col("integration") == "okta")
    rows = events.events.filter(ours).drop("person").collect()
    write_deltalake(
        root / "events",
        rows.with_columns(action=pl.lit("renamed"), country=pl.lit("NL")),
        mode="overwrite",
        predicate=f"date = DATE '{day}' AND integration = 'okta'",
    )


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Stage]]:
    """A lake that is rolled up, grows, is compacted, has rows replaced and is rolled up again."""
    with pytest.MonkeyPatch.context() as few:
        few.setattr(counts, "_READINGS", 3)
        yield _stages(tmp_path_factory.mktemp("counted"))


def _stages(root: Path) -> Callable[[int], Stage]:
    append(root, 0, 300)
    unknown = look(root)
    tidied(root)
    rolled = look(root)
    append(root, 1000, 200)
    small_lakes.append(root, [small_lakes.hostile(5000, NOW - timedelta(days=2))])
    grown = look(root)
    for part in range(4):
        append(root, 2000 + part * 100, 60)
    tidied(root)
    compacted = look(root)
    replace(root, TODAY - timedelta(days=1))
    replaced = look(root)
    tidied(root)
    again = look(root)
    tidied(root, TODAY + timedelta(days=2))
    return (unknown, rolled, grown, compacted, replaced, again, look(root)).__getitem__


def test_the_stages_have_the_expected_rollups(stages: Callable[[int], Stage]) -> None:
    unknown, rolled, grown, compacted, replaced, again, whole = (stages(n).known for n in range(7))
    assert (unknown, rolled, grown, compacted) == (0, 6, 6, 6)
    assert replaced == compacted - 1
    assert (again, whole) == (compacted, compacted + 1)


def test_a_person_without_and_with_an_address_is_one_as_soon_as_identities_exist(
    stages: Callable[[int], Stage],
) -> None:
    unknown, whole = stages(0).plain.all, stages(6).plain.all
    assert unknown["person"].null_count() == unknown.height
    assert {"ada@acme.example", RENAMED} <= {*whole["person"]}
    renamed = whole.filter(pl.col("actor_id") == "00uguido", pl.col("integration") == "okta")
    assert renamed.filter(pl.col("actor_email").is_null())["person"].null_count()


@pytest.mark.parametrize("place", [0, 2, 6])
@pytest.mark.parametrize("value", ["Folder", "folder-1", "Application-7"])
def test_a_filter_on_a_target_finds_the_events_that_are_counted(
    stages: Callable[[int], Stage], place: int, value: str
) -> None:
    snapshot = stages(place).snapshot
    query = Query(since=FIRST - timedelta(days=1), until=NOW)
    counted = dict(snapshot.ask(queries.values, query, "target", 100).iter_rows())
    wanted = Query(since=query.since, until=NOW, filters=(Filter(field="target", value=value),))
    searched = Query(since=query.since, until=NOW, text=f'target="{value}"')
    found = [sum(n for _, n in snapshot.ask(queries.days, one)) for one in (wanted, searched)]
    assert found == [counted[value]] * 2
    assert counted[value] > 0


@pytest.mark.parametrize("place", [0, 6])
def test_the_series_of_a_graph_by_target_add_up_to_the_events(
    stages: Callable[[int], Stage], place: int
) -> None:
    snapshot = stages(place).snapshot
    query = Query(since=FIRST - timedelta(days=1), until=NOW)
    counted = dict(snapshot.ask(queries.stacked, query, "target", 1000).iter_rows())
    assert sum(counted.values()) == snapshot.ask(queries.summary, query).events
    edges = times.edges(query.since, query.until, times.zone("UTC"))
    drawn = snapshot.ask(queries.activity, query, "target", tuple(counted), edges)
    series = drawn.group_by("series").agg(pl.col("n").sum())
    assert {tuple(counted)[place]: n for place, n in series.iter_rows()} == counted


INSTANTS = st.one_of(
    st.integers(-12, 156).map(lambda hours: FIRST + timedelta(hours=hours)),
    st.integers(0, 144 * 3600).map(lambda seconds: FIRST + timedelta(seconds=seconds)),
    st.sampled_from([20, 200, 800]).map(lambda days: FIRST - timedelta(days=days)),
)
VALUES = {
    "integration": ["okta", "google", "entra"],
    "activity_type": ["Authentication", "Account Change", small_lakes.HOSTILE],
    "action": ["download", "renamed", "Sign-in activity"],
    "outcome": ["success", "failure"],
    "actor": ["ada@acme.example", "guido@acme.example", RENAMED, "Somebody", "00uada", ""],
    "source_ip": ["203.0.113.7", "203.0.113.40", ""],
    "country": ["GB", "", "NL"],
    "target": ["Application-7", "Application-21", "Folder", "folder-1", ""],
    "target_name": ["Application-7", "Folder"],
    "severity": ["info", ""],
}
TEXTS = (
    *("refused", "-download", "actor:ada* 203.0", "USER signed", "APPLICATION-7", "ok"),
    *("evil.example", '-"sharing changed" renamed', "no such words", "-nowhere", "re*sed"),
)
FILTERS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda field: st.builds(
        Filter, field=st.just(field), value=st.sampled_from(VALUES[field]), negated=st.booleans()
    )
)


@st.composite
def asked(draw: st.DrawFn) -> Query:
    span = times.between(draw(INSTANTS), draw(INSTANTS))
    return Query(
        since=span.since,
        until=span.until,
        text=draw(st.sampled_from(["", "", *TEXTS])),
        filters=tuple(draw(st.lists(FILTERS, max_size=3))),
        held=draw(st.none() | INSTANTS),
    )


@given(
    place=st.integers(0, 6),
    number=st.sampled_from([1, 2]),
    query=asked(),
    by=st.tuples(
        st.sampled_from([*fields.GROUPS, *fields.MORE_FILTERS]),
        st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu"]),
    ),
)
def test_every_result_equals_that_of_a_plain_scan(
    stages: Callable[[int], Stage], place: int, number: int, query: Query, by: tuple[str, str]
) -> None:
    stage, field = stages(place), by[0]
    # The account of a person stands for the person.
    resolved = stage.snapshot.resolved(query)
    edges = times.edges(query.since, query.until, times.zone(by[1]))
    top = tuple(queries.values(stage.plain, resolved, field, 3)["value"])
    counted = queries.days(stage.plain, resolved)
    for question, args in (
        (queries.days, ()),
        (queries.summary, ()),
        (queries.values, (field, 20)),
        (queries.stacked, (field, 20)),
        (queries.activity, (field, top, edges)),
        (queries.page, (number, counted)),
    ):
        ours = stage.snapshot.ask(question, query, *args)
        plain = question(stage.plain, resolved, *args)
        same = ours.equals(plain) if isinstance(ours, pl.DataFrame) else ours == plain
        assert same, (question.__name__, ours, plain)


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Ten weeks in which clocks change in many zones, with one event per 50 minutes."""
    root = tmp_path_factory.mktemp("changing")
    small_lakes.append(root, small_lakes.events(2016, end=AUTUMN, days=70))
    tidied(root, AUTUMN.date())
    snapshot = Lake(str(root), {}).look()
    assert snapshot
    return snapshot


AUTUMN = datetime(2026, 11, 8, 7, 10, tzinfo=UTC)
ZONES = ("Europe/London", "America/New_York", "Australia/Lord_Howe", "America/Santiago")


@pytest.mark.parametrize(
    ("zone", "days", "text"),
    crossed(["Asia/Kolkata", "Asia/Kathmandu", *ZONES], [2, 16, 70], ["", "signed"], count=14),
)
def test_buckets_follow_the_clock_of_the_zone(
    changing: Snapshot, zone: str, days: int, text: str
) -> None:
    for until in (AUTUMN, datetime(2026, 10, 26, 3, tzinfo=UTC), datetime(2026, 10, 5, tzinfo=UTC)):
        query = Query(since=until - timedelta(days=days), until=until, text=text)
        edges = times.edges(query.since, query.until, times.zone(zone))
        found = changing.ask(queries.activity, query, "outcome", ("success",), edges)
        counted = dict(found.group_by("start").agg(pl.col("n").sum()).iter_rows())
        seen = queries.matching(changing.events, query).select("time").collect()["time"].to_list()
        expected = {
            start: n
            for start, end in itertools.pairwise(edges)
            if (n := sum(start <= one < end for one in seen))
        }
        assert counted == expected


def test_only_files_that_contain_an_actor_are_read(tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(60, end=NOW))
    once = small_lakes.event(999, NOW - timedelta(days=3), random.Random(1))
    small_lakes.append(tmp_path, [once | {"actor_email": "once@acme.example"}])
    tidied(tmp_path)
    for file in (tmp_path / "events").glob("date=*/*.parquet"):
        if file.parent.name not in ("date=2026-11-20", f"date={TODAY}"):
            file.unlink()
    snapshot = Lake(str(tmp_path), {}).look()
    assert snapshot
    query = Query(
        since=FIRST, until=NOW, filters=(Filter(field="actor", value="once@acme.example"),)
    )
    counted = snapshot.ask(queries.days, query)
    assert counted == ((date(2026, 11, 20), 1),)
    assert snapshot.ask(queries.summary, query).addresses == 1
    assert snapshot.ask(queries.page, query, 1, counted).height == 1


def test_an_empty_email_address_does_not_match(tmp_path: Path) -> None:
    day = NOW - timedelta(days=2)
    some, other = (small_lakes.event(n, day, random.Random(n)) for n in (1, 2))
    rows = [some | {"actor_email": "x@acme.example"}, other | {"actor_email": ""}]
    small_lakes.append(tmp_path, rows)
    tidied(tmp_path)
    wanted = tuple(Filter(field="actor", value=value) for value in ("x@acme.example", ""))
    stage, query = look(tmp_path), Query(since=FIRST, until=NOW, filters=wanted)
    found = queries.page(stage.snapshot.counts, query, 1, queries.days(stage.plain, query))
    assert found["actor"].to_list() == ["x@acme.example"]


def test_only_files_that_may_contain_a_word_are_read(tmp_path: Path) -> None:
    small_lakes.append(tmp_path, small_lakes.events(60, end=NOW))
    once = small_lakes.event(999, NOW - timedelta(days=3), random.Random(1))
    also = {"id": "x", "name": "Wanted \u20ac List", "type": "Document"}
    small_lakes.append(tmp_path, [once | {"targets": [*once["targets"], also]}])
    tidied(tmp_path)
    for file in (tmp_path / "events").glob("date=*/*.parquet"):
        if file.parent.name not in ("date=2026-11-20", f"date={TODAY}"):
            file.unlink()
    snapshot = Lake(str(tmp_path), {}).look()
    assert snapshot
    for text in (
        "wanted",
        '"WANTED" application',
        'wanted OR "wanted list"',
        "(wanted, nowhereatall)",
        "application AND (nowhereatall OR wanted) AND NOT neverseen",
    ):
        counted = snapshot.ask(queries.days, Query(since=FIRST, until=NOW, text=text))
        assert counted == ((date(2026, 11, 20), 1),)


LETTERS = st.text(st.sampled_from("abkAK 0-\0\u212a\u00e9"), max_size=8)


@given(
    told=st.lists(st.none() | LETTERS, min_size=1, max_size=5),
    name=st.none() | LETTERS,
    word=LETTERS.filter(bool),
)
def test_a_word_is_never_missed(told: list[str | None], name: str | None, word: str) -> None:
    rows = [{"message": one, "target_name": name, "targets": [{"name": one}]} for one in told]
    columns = {column: EVENTS[column] for column in (*SEARCHED, TARGETS)}
    events = pl.DataFrame(rows, schema=columns).with_row_index("row")
    known = dict(rollup.texts(events).iter_rows())
    grams = rollup.grams(word)
    lacking = {field for field, runs in known.items() if grams - {*runs.split("\0")}}
    wanted = Word(text=word, quoted=True)
    plain, spared = (
        events.filter(*compiler.expressions(Term(words=(wanted,)), {wanted: nowhere}))["row"]
        for nowhere in ((), lacking)
    )
    assert plain.to_list() == spared.to_list()


@pytest.mark.parametrize(
    "text", ["admin", "actor:admin*", '"dmi"', "-actor:*@acme.example actor:*@*"]
)
def test_a_disguised_text_is_found_in_files_of_any_age(tmp_path: Path, text: str) -> None:
    append(tmp_path, 0, 40)
    plain = small_lakes.event(900, NOW - timedelta(days=2), random.Random(1))
    names = {"actor_email": "ad\u200bmin@x.example", "actor_name": None}
    small_lakes.append(tmp_path, [plain | names])
    query = Query(since=FIRST, until=NOW, text=text)
    before = look(tmp_path).snapshot.ask(queries.days, query)
    assert [n for _, n in before] == [1]
    tidied(tmp_path)
    rolled = pl.read_delta(str(tmp_path / "rollups"))
    assert look(tmp_path).snapshot.ask(queries.days, query) == before
    # A release before this one wrote no such row, no layout, and trigrams of the exact texts.
    texts = pl.col("part") == rollup.TEXTS
    old = rolled.filter(~texts | (pl.col("field") != rollup.DISGUISED)).with_columns(
        grams=pl.when(texts).then(pl.lit("xyz"))
    )
    old = old.drop("layout")
    shutil.rmtree(tmp_path / "rollups")
    write_deltalake(tmp_path / "rollups", old, partition_by=["part"])
    assert look(tmp_path).snapshot.ask(queries.days, query) == before
    tidied(tmp_path)
    assert look(tmp_path).snapshot.ask(queries.days, query) == before
    after = pl.read_delta(str(tmp_path / "rollups")).filter(field=rollup.DISGUISED)
    assert after["grams"].to_list().count("actor_email") == 1


def test_rollups_of_an_older_version_are_completed(tmp_path: Path) -> None:
    append(tmp_path, 0, 100)
    tidied(tmp_path)
    old = pl.read_delta(str(tmp_path / "rollups")).drop("field", "grams")
    shutil.rmtree(tmp_path / "rollups")
    write_deltalake(tmp_path / "rollups", old.filter(pl.col("file") < 3), partition_by=["part"])
    query = Query(since=FIRST, until=NOW, text="refused")
    before = look(tmp_path).snapshot.ask(queries.days, query)
    tidied(tmp_path, TODAY + timedelta(days=1))
    assert look(tmp_path).snapshot.ask(queries.days, query) == before
    assert pl.read_delta(str(tmp_path / "rollups")).filter(part=rollup.TEXTS)["grams"].len()


def test_a_search_ends_between_two_data_files(tmp_path: Path) -> None:
    append(tmp_path, 0, 300)
    counted = look(tmp_path).snapshot.counts
    query = Query(since=FIRST, until=NOW, text="ada")
    shares: list[float] = []
    with patience.watched(lambda: 0.0, shares.append):
        whole = queries.days(counted, query)
    assert whole
    assert len(shares) > 2
    now = iter(range(0, 1000, 25))
    shares.clear()
    with pytest.raises(TooLong), patience.watched(lambda: float(next(now)), shares.append):
        queries.days(counted, Query(since=FIRST, until=NOW, text="alan"))
    assert len(shares) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda counted, query: queries.values(counted, query, "target", 9),
        lambda counted, query: listing.page(
            counted, query, 1, queries.days(counted, query), order=Order(field="seq")
        ),
    ],
    ids=["targets", "sorted"],
)
def test_targets_and_a_sorted_page_can_be_ended_too(tmp_path: Path, ask: Ask) -> None:
    append(tmp_path, 0, 300)
    counted = look(tmp_path).snapshot.counts
    query = Query(since=FIRST, until=NOW, text="ada")
    queries.days(counted, query)
    shares: list[float] = []
    with patience.watched(lambda: 0.0, shares.append):
        whole = ask(counted, query)
    assert whole.height
    assert len(shares) > 2
    now = iter(range(0, 1000, 25))
    with pytest.raises(TooLong), patience.watched(lambda: float(next(now)), lambda _: None):
        ask(counted, query)
