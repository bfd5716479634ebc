"""Events are derived again from raw, and show only the newest version of re-published records."""

import json
import random
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import dagster
import httpx
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import definitions, registry
from pipelines.errors import LakeError
from pipelines.extraction import derive, renormalise
from pipelines.extraction import report as reports
from pipelines.extraction.renormalise import History
from pipelines.lake import commits as lake_commits
from pipelines.lake import events as events_table
from pipelines.lake import raw as raw_table
from pipelines.lake import tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.mapping import normalise
from pipelines.sdk import json_records
from pipelines.sdk.contract import Docs, Integration, Source, Stream
from pipelines.settings import IntegrationSettings
from tests.mapping import rows
from tests.tiers import FULL

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = datetime(2030, 1, 1, tzinfo=UTC)
PLAIN = {"action": "verb", "actor_id": "who"}


def made(columns=PLAIN, *, version=1, name="log", latest_of=None, explode=None):
    """Return a function of a lake that gives a history of an invented service."""
    stream = Stream(
        name=name,
        begin=lambda since, now: "",
        pages=lambda client, cursor, now: iter(()),
        id="id",
        time="time",
        columns=columns,
        latest_of=latest_of,
        explode=explode,
        keeps=timedelta(days=9),
    )
    integration = Integration(
        kind="invented",
        title="Invented",
        settings=IntegrationSettings,
        streams=lambda _: (stream,),
        auth=lambda _: httpx.Auth(),
        docs=Docs(credentials="", permissions="", history="", delay="", push=""),
        mapping_version=version,
    )
    source = Source(name="it's", integration=integration, settings=SimpleNamespace(streams=()))
    return lambda lake: History(lake=lake, source=source, stream=stream)


LACKING = ("targets", "source_ip")


def history_of(lake, integration, stream):
    """Return the history of a vendor's stream as an integration derives it."""
    source = Source(
        name=integration.kind, integration=integration, settings=SimpleNamespace(streams=())
    )
    return History(lake=lake, source=source, stream=stream)


def record(number, **members):
    time = NOON - timedelta(hours=7 * number)
    return json.dumps({"id": f"i{number}", "time": time.isoformat(), "who": "ada", **members})


def land(history, *records, via="poll"):
    """Append the records to raw, and derive their events."""
    found = normalise.read(history.stream, [r.encode() for r in records], NOON, via)
    assert found["fault"].is_null().all()
    raw_table.append(history.lake, history.key, found.drop("fault", "bytes"), "cursor")
    catch_up(history)


def catch_up(history):
    report = reports.Report(integration="", stream="")
    derive.catch_up(history.lake, history.source, history.stream, report)


def events(history):
    return events_table.snapshot(history.lake, history.key)[0].collect().sort("seq", "event_uid")


def expected(history):
    """Return the expected rows of `events`, derived independently."""
    raw = history.raw(raw_table.days(history.lake, history.key), 10**9)
    return history.derive(raw).sort("seq", "event_uid")


def commits(lake):
    return tables.open_table(lake, "events").version()


# re-published records


@settings(max_examples=15 if FULL else 8)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_events_show_the_newest_version_and_raw_keeps_them_all(tmp_path_factory, batches):
    history = made(latest_of="id")(Lake(str(tmp_path_factory.mktemp("lake"))))
    newest, seen = {}, set()
    for batch in batches:
        for number, verb in batch:
            if (number, verb) not in seen:
                newest[f"i{number}"] = verb
            seen.add((number, verb))
        land(history, *(record(number, verb=verb) for number, verb in batch))
    stored = events(history)
    shown = zip(stored["event_id"].str.split("@").list.first(), stored["action"], strict=True)
    assert sorted(shown) == sorted(newest.items())
    assert raw_table.position(history.lake, history.key).rows == len(seen)
    assert stored.equals(expected(history))


def test_a_newer_version_replaces_the_older_in_one_commit(lake):
    history = made({**PLAIN, "target_id": "parts[].id"}, latest_of="id", explode="parts")(lake)
    land(history, record(1, verb="a", parts=[{"id": 1}, {"id": 2}]), record(2, verb="x"))
    before = commits(lake)
    land(history, record(3, verb="y"), record(1, verb="b", parts=[{"id": 1}]))
    assert commits(lake) == before + 1
    assert sorted(events(history)["action"]) == ["b", "x", "y"]


def test_a_different_order_of_members_is_not_a_new_version(lake):
    history = made(latest_of="id")(lake)
    land(history, record(1, verb="a"), record(1, verb="a")[::1])
    land(history, json.dumps(dict(reversed(json.loads(record(1, verb="a")).items()))))
    assert raw_table.position(lake, history.key).rows == 1


def test_other_streams_are_only_appended_to(lake):
    history = made()(lake)
    land(history, record(1, verb="a"))
    land(history, record(1, verb="a"), record(2, verb="c"))
    assert events(history)["action"].to_list() == ["a", "c"]
    assert {c["operationParameters"]["mode"] for c in tables.open_table(lake, "events").history()
            if c["operation"] == "WRITE"} == {"Append"}  # fmt: skip


# records that arrive again with other content

WAYS = {"poll", "backfill", "webhook"}


@settings(max_examples=10 if FULL else 6)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.sampled_from(sorted(WAYS))),
            min_size=1,
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_events_show_the_version_that_counts_and_renormalise_and_the_check_agree(
    tmp_path_factory, batches
):
    history = made()(Lake(str(tmp_path_factory.mktemp("lake"))))
    kept = {}
    for batch in batches:
        for number, verb, way in batch:
            land(history, record(number, verb=verb), via=way)
            kept.setdefault(f"i{number}", []).append((way, verb))
    raw = history.raw(raw_table.days(history.lake, history.key), 10**9).collect()
    stored = events(history)
    assert stored["seq"].to_list() == raw["seq"].sort().to_list()
    assert stored["event_id"].str.split("~").list.first().is_unique().all()
    assert stored.equals(expected(history))
    ids = tables.scan(history.lake, history.key.table).collect()["event_id"]
    assert ids.is_unique().all()
    assert len(ids) <= 2 * 2 * len(kept)
    for record_id, verb in zip(
        stored["event_id"].str.split("~").list.first(), stored["action"], strict=True
    ):
        polled = [content for way, content in kept[record_id] if way != "webhook"]
        assert verb in polled if polled else verb == kept[record_id][0][1]
    assert renormalise.check(history, rows=99, seed=1).sound
    for _ in renormalise.renormalise(history, everything=True):
        pass
    assert events(history).equals(stored)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("ways", [("webhook", "poll"), ("poll", "webhook")])
def test_the_polled_version_is_shown_whether_it_comes_first_or_last(lake, ways, batched):
    history = made()(lake)
    both = [(record(1, verb=way), way) for way in ways]
    if batched:
        read = [normalise.read(history.stream, [r.encode()], NOON, way) for r, way in both]
        rows = pl.concat(read).drop("fault", "bytes")
        raw_table.append(lake, history.key, rows, "cursor")
        catch_up(history)
    else:
        for each, way in both:
            land(history, each, via=way)
    assert events(history)["action"].to_list() == ["poll"]
    assert (
        raw_table.position(lake, history.key).rows == events_table.derived(lake, history.key) == 2
    )


def test_of_a_record_with_several_events_all_are_replaced_at_once(lake):
    history = made({**PLAIN, "target_id": "parts[].id"}, explode="parts")(lake)
    land(history, record(1, verb="a", parts=[{"id": 1}, {"id": 2}]), record(2, verb="x"))
    before = commits(lake)
    land(history, record(3, verb="y"), record(1, verb="b", parts=[{"id": 1}]))
    assert commits(lake) == before + 1
    assert sorted(events(history)["action"]) == ["b", "x", "y"]


# derived again


RECORDS = [record(n, verb=f"v{n}", does=f"d{n}") for n in range(40)]
BETTER = {**PLAIN, "action": "does"}


def test_a_new_mapping_replaces_its_own_rows_and_nothing_else(lake):
    old, new, other = made()(lake), made(BETTER, version=2)(lake), made(name="other")(lake)
    land(old, *RECORDS)
    land(other, *RECORDS)
    tables.open_table(lake, "events").optimize.compact()
    before = events(other)
    done = list(renormalise.renormalise(new))
    assert (done[-1].left, sum(d.events for d in done)) == (0, 40)
    assert events(new)["action"].to_list() == [f"d{n}" for n in range(40)]
    assert events(new).equals(expected(new))
    assert events(other).equals(before)
    assert list(renormalise.renormalise(new)) == []
    assert len(list(renormalise.renormalise(new, everything=True))) == len(done)


@pytest.mark.parametrize("kind", registry.kinds())
def test_a_lake_of_the_previous_version_of_a_vendors_mapping_is_derived_again(lake, kind):
    current = registry.kind(kind)
    stream = rows.stream_of(kind, next(name for of, name in rows.STREAMS if of == kind))
    fewer = {name: path for name, path in stream.columns.items() if name not in LACKING}
    previous = replace(current, mapping_version=current.mapping_version - 1)
    before = history_of(lake, previous, replace(stream, columns=fewer))
    after = history_of(lake, current, stream)
    given = json_records.split_lines((rows.FIXTURES / kind / f"{stream.name}.ndjson").read_bytes())
    found = normalise.read(stream, given, LATER, "poll")
    raw_table.append(lake, before.key, found.drop("fault", "bytes"), "cursor")
    catch_up(before)
    assert set(events(before)["mapping_version"]) == {previous.mapping_version}
    assert events(before)["target_name"].null_count() == events(before).height
    list(renormalise.renormalise(after))
    assert set(events(after)["mapping_version"]) == {current.mapping_version}
    assert events(after).equals(expected(after))
    assert events(after)["target_name"].null_count() < events(after).height


def test_readers_always_see_every_row(lake):
    old, new = made()(lake), made(BETTER, version=2)(lake)
    land(old, *RECORDS)
    for _ in renormalise.renormalise(new):
        assert events(new)["seq"].to_list() == list(range(40))


def test_a_new_mapping_may_derive_more_or_fewer_events(lake):
    old = made({"action": "two[].n"}, explode="two")(lake)
    new = made({"action": "three[].n"}, version=2, explode="three")(lake)
    two, three = [{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}, {"n": 3}]
    land(old, record(1, two=two, three=three), record(2, two=two, three=[]))
    assert events(old).height == 4
    list(renormalise.renormalise(new))
    assert events(new)["seq"].to_list() == [0, 0, 0, 1]


def test_older_versions_stay_hidden(lake):
    old, new = made(latest_of="id")(lake), made(BETTER, version=2, latest_of="id")(lake)
    for verb in "abc":
        land(old, *(record(n, verb=verb, does=verb.upper()) for n in range(5)))
    list(renormalise.renormalise(new))
    assert events(new)["action"].to_list() == ["C"] * 5


def test_events_whose_raw_rows_are_gone_stay(lake, tmp_path):
    old, new = made()(lake), made(BETTER, version=2)(lake)
    land(old, *RECORDS)
    tables.Path(lake.uri("raw")).rename(tmp_path / "elsewhere")
    with pytest.raises(LakeError, match="lost its rows"):
        list(renormalise.renormalise(new))
    assert events(old).height == 40


def test_a_concurrent_poll_is_neither_lost_nor_duplicated(lake, monkeypatch):
    """The poll commits after the replacement has decided and before it commits."""
    old, new = made()(lake), made(BETTER, version=2)(lake)
    land(old, *RECORDS[:4])
    written = []

    def a_poll_is_first(handle, frame, **options):
        if options["mode"] == "overwrite" and len(written) < 3:
            written.append(None)
            land(old, RECORDS[4 + len(written)])
        write_deltalake(handle, frame, **options)

    monkeypatch.setattr(lake_commits, "write_deltalake", a_poll_is_first)
    list(renormalise.renormalise(new))
    assert len(written) == 3
    assert events(new)["seq"].to_list() == list(range(7))
    list(renormalise.renormalise(new))
    assert events(new).equals(expected(new))


def test_polls_of_other_streams_do_not_interfere(lake, monkeypatch):
    old, new, other = made()(lake), made(BETTER, version=2)(lake), made(name="other")(lake)
    land(old, *RECORDS)
    land(other, RECORDS[0])
    tries = []

    def another_is_first(handle, frame, **options):
        if options["mode"] == "overwrite":
            tries.append(None)
            land(other, record(100 + len(tries), verb="x"))
        write_deltalake(handle, frame, **options)

    monkeypatch.setattr(lake_commits, "write_deltalake", another_is_first)
    done = list(renormalise.renormalise(new))
    assert len(tries) == len(done)
    assert events(new).equals(expected(new))
    assert events(other).equals(expected(other))


def test_polls_renormalising_and_compaction_may_run_at_once(lake):
    old, new = made(latest_of="id")(lake), made(BETTER, version=2, latest_of="id")(lake)
    other = made(name="other")(lake)
    land(old, *RECORDS[:10])
    land(other, *RECORDS[:10])
    errors = []

    def work(step):
        try:
            for turn in range(6):
                step(turn)
        except Exception as error:
            errors.append(error)

    def compact(_):
        try:
            tables.open_table(lake, "events").optimize.compact()
        except Exception as error:
            assert "oncurrent" in str(error)

    steps = [
        lambda turn: land(old, record(turn, verb=f"again{turn}", does="x"), RECORDS[10 + turn]),
        lambda turn: land(other, record(turn, verb=f"again{turn}"), RECORDS[10 + turn]),
        lambda _: list(renormalise.renormalise(new, everything=True)),
        compact,
    ]
    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    list(renormalise.renormalise(new))
    assert events(new).equals(expected(new))
    assert events(other).equals(expected(other))


def test_a_record_that_is_republished_while_its_part_waits_is_not_lost(lake):
    old, new = made(latest_of="id")(lake), made(BETTER, version=2, latest_of="id")(lake)
    today, earlier = record(0, verb="a", does="A"), record(9, verb="b", does="B")
    land(old, today, earlier)
    renormalising = renormalise.renormalise(new)
    next(renormalising)
    land(old, record(9, verb="c", does="C"))
    before = commits(lake)
    assert [(done.events, done.left) for done in renormalising] == [(0, 0)]
    assert commits(lake) == before
    assert events(new)["action"].to_list() == ["A", "c"]
    list(renormalise.renormalise(new))
    assert events(new).equals(expected(new))


RENORMALISE = """
import sys
from pipelines.extraction import renormalise
from pipelines.lake.tables import Lake
from tests.extraction.test_renormalise import BETTER, made
renormalise._PART = 2
print("ready", flush=True)
list(renormalise.renormalise(made(BETTER, version=2)(Lake(sys.argv[1]))))
"""


def test_kills_at_random_moments_only_leave_work_to_do(lake):
    old, new = made()(lake), made(BETTER, version=2)(lake)
    land(old, *RECORDS)
    chance, kills = random.Random(5), 0
    for _ in range(8 if FULL else 4):
        process = subprocess.Popen(
            [sys.executable, "-c", RENORMALISE, lake.root], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        try:
            process.wait(timeout=chance.uniform(0.05, 0.4))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        process.stdout.close()
        assert events(new)["seq"].to_list() == list(range(40))
    assert kills
    list(renormalise.renormalise(new))
    assert events(new).equals(expected(new))


def test_dagster_has_a_job_and_a_check_for_renormalising(lake):
    def in_dagster(make):
        history = make(lake)
        source = replace(history.source, name="invented")
        return replace(history, source=source), definitions.definitions(lake, [source])

    def follows(defs):
        done = defs.resolve_job_def("full_table_checks").execute_in_process(instance=instance)
        found = [c for c in done.get_asset_check_evaluations() if c.check_name.startswith("follow")]
        return found[0].passed, found[0].description

    with dagster.DagsterInstance.ephemeral() as instance:
        old, before = in_dagster(made())
        land(old, *RECORDS[:5])
        assert follows(before) == (True, "sound")
        new, after = in_dagster(made(BETTER, version=2))
        assert "run renormalise_events" in follows(after)[1]
        assert after.resolve_job_def("renormalise_events").execute_in_process().success
        assert follows(after) == (True, "sound")
        assert events(new).equals(expected(new))


# the check


def test_the_check_passes_after_polls(lake):
    history = made(latest_of="id")(lake)
    land(history, *RECORDS)
    land(history, record(3, verb="again"))
    verdict = renormalise.check(history, rows=1000, seed=1)
    assert verdict.sound
    assert verdict.events > 10


def test_the_check_finds_different_missing_and_stale_events(lake):
    history = made()(lake)
    land(history, *RECORDS[:3])
    fresh = expected(history)
    wrong = fresh.with_columns(action=pl.when(seq=1).then(pl.lit("forged")).otherwise("action"))
    assert renormalise.compare(wrong, fresh, 1).differing == {"action": 1}
    assert renormalise.compare(fresh.head(2), fresh, 1).missing == 1
    assert renormalise.compare(fresh, fresh.head(2), 1).surplus == 1
    verdict = renormalise.compare(wrong, fresh, 2)
    assert (verdict.stale, verdict.events, verdict.sound) == (3, 0, True)


def test_the_check_passes_on_an_empty_lake(lake):
    assert renormalise.check(made()(lake), rows=10, seed=1).sound


def test_unusual_names_are_quoted():
    assert "integration = 'it''s'" in tables.replace_predicate(
        StreamKey("it's", "log"), [NOON.date()], "TRUE"
    )
    assert replace(made()(Lake("x")), lake=Lake("y")).key.integration == "it's"
