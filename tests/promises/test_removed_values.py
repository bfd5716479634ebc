"""After `retain` and `erase`, no file of the lake has a value that only the removed rows had."""

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.clock import utc_now
from pipelines.detections.detector import Detector
from pipelines.extraction import client, rounds
from pipelines.extraction.backfill import fetch_span
from pipelines.integrity import erasure, reports, retention
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.lake import maintenance, raw, reconciliation, tables
from pipelines.lake.maintenance import MinimumAge
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.pages import Span
from pipelines.settings import IntegritySettings
from pipelines.settings.detections import DetectionSettings
from sandbox.server import Options, running
from tests.conftest import World
from tests.promises.contents import content, texts
from tests.promises.kills import FAR

RULES = Path(__file__).parents[2] / "rules"
KINDS = ("okta", "jumpcloud")
LOGS = [StreamKey("okta", "system_log"), StreamKey("jumpcloud", "directory_insights")]
COLUMNS = (
    *("event_id", "event_uid", "actor_id", "actor_name", "actor_email", "target_id"),
    *("target_name", "source_ip", "user_agent", "session_id", "correlation_id"),
)
BEFORE = (utc_now() - timedelta(days=1)).date()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A lake with rows in every table, compacted and counted, of which the oldest days go."""
    folder = tmp_path_factory.mktemp("removed")
    lake = Lake(str(folder / "lake"), integrity=IntegritySettings(folder=folder / "state"))
    with running(Options(days=3, per_day=120, rate=0)) as server:
        found = World(running=server, lake=lake)
        for kind in KINDS:
            assert not any(report.error for report in found.poll(kind))
        for log in LOGS:
            receive_otherwise(found, log)
        list(Detector(lake=lake, settings=DetectionSettings(rules=[RULES])).detect())
        list(maintenance.maintain(lake, LOGS, FAR))
        yield found


def receive_otherwise(world: World, log: StreamKey) -> None:
    """Add rejected copies and echoes of all rows, and compare pushes with polls."""
    rows = world.stored(*log)
    names = {"integration": pl.lit(log.integration), "stream": pl.lit(log.stream)}
    rejected = rows.select(
        **names, ingested_at="ingested_at", reason=pl.lit("no id"),
        raw=pl.col("raw").cast(pl.Binary), raw_sha256="raw_sha256",
    )  # fmt: skip
    raw.append_rejected(world.lake, log, rejected)
    way = pl.lit("webhook").alias("way")
    echoes = rows.select("event_id", "time", "date", way, seen_at="ingested_at")
    reconciliation.record(world.lake, {log: echoes})
    oldest = rows["date"].min()
    found = reconciliation.compare(world.lake, log, oldest, utc_now())
    reconciliation.write(world.lake, log, found)


def only_removed(world: World) -> set[str]:
    """Return the values in the columns of removed events that no other row has anywhere."""
    events = tables.scan(world.lake, "events").collect()
    old, kept = events.filter(pl.col("date") < BEFORE), events.filter(pl.col("date") >= BEFORE)
    records = pl.concat([world.stored(*log) for log in LOGS]).filter(pl.col("date") >= BEFORE)
    elsewhere = "\n".join([*texts(kept), *texts(records)])
    values = {value for name in COLUMNS for value in old[name].drop_nulls().unique()}
    return {value for value in values if len(value) > 5 and value not in elsewhere}


def found_in(files: dict[str, str], values: set[str]) -> dict[str, set[str]]:
    """Return the values that each of the files contains."""
    hits = {name: {value for value in values if value in text} for name, text in files.items()}
    return {name: found for name, found in hits.items() if found}


def current(lake: Lake) -> dict[str, str]:
    """Return the contents of each table's newest version, read from its files."""
    return {
        table: "\n".join(texts(pl.read_delta(lake.uri(table))))
        for table in maintenance.tables_of(lake, [])
    }


def on_disk(lake: Lake) -> dict[str, str]:
    """Return the contents of every file, the ids next to the signed hashes included."""
    found = Path(lake.root).rglob("*")
    return {str(path.relative_to(lake.root)): content(path) for path in found if path.is_file()}


def problems(world: World) -> list[str]:
    """Return the findings of a full verification of every table."""
    where = reports.place(world.lake, world.lake.integrity)
    named = [*verify.tables(where), *reports.derived(where)]
    with WorkerPool(1) as workers:
        found = list(
            reports.verdicts(where, named, {kind: kind for kind in KINDS}, workers, full=True)
        )
    return [f"{each.table}: {bad.detail}" for each in found for bad in each.findings]


def test_no_table_and_no_file_has_a_value_that_only_removed_rows_had(world: World) -> None:
    values = only_removed(world)
    # A newer finding keeps the person who was recognised then, by an event that is removed now.
    values -= set(tables.scan(world.lake, "identities").collect()["person"])
    assert len(values) > 100
    before = found_in(current(world.lake), values)
    tables_with_values = {"events", "rollups", "rejected", "echoes", "findings", "hits"}
    assert {*tables_with_values, LOGS[0].table} <= before.keys()
    days = tables.scan(world.lake, "text_index").select("date").collect()["date"]
    assert days.min() < BEFORE
    for log in LOGS:
        removal = retention.Removal(log=log, before=BEFORE, who="ada", why="a rule")
        assert retention.remove(world.lake, removal, utc_now()) > 0
    assert found_in(current(world.lake), values) == {}
    assert found_in(on_disk(world.lake), values) == {}
    # Filters of the removed days would answer whether they had a text.
    for file in world.lake.local.glob("text_index/*.parquet"):
        assert pl.read_parquet(file)["date"].min() >= BEFORE
    reconciled = tables.scan(world.lake, "reconciliation").collect()
    assert reconciled["date"].min() >= BEFORE
    assert problems(world) == []
    list(maintenance.maintain(world.lake, LOGS, FAR, MinimumAge(files=timedelta(0))))
    assert found_in(on_disk(world.lake), values) == {}
    assert tables.scan(world.lake, "rejected").collect().height > 0
    for log in LOGS:
        assert (
            DeltaTable(world.lake.uri(log.table)).metadata().configuration["delta.appendOnly"]
            == "true"
        )


def test_an_erased_person_is_in_no_file_and_does_not_come_back(world: World) -> None:
    log, lake = LOGS[0], world.lake
    shown = world.events(*log).filter(pl.col("actor_email").is_not_null())
    person = shown["actor_email"].value_counts(sort=True)["actor_email"][0]
    found = erasure.of_person(lake, person, LOGS)
    assert len(found.rows[log]) > 5
    request = erasure.Request(who="ada", why="request 17")
    assert erasure.erase(lake, found, request, utc_now()) == sum(map(len, found.rows.values()))
    list(maintenance.maintain(lake, LOGS, FAR, MinimumAge(files=timedelta(0))))
    assert found_in(on_disk(lake), {person}) == {}
    source, midnight = world.source("okta"), datetime.combine(BEFORE, time(1), UTC)
    span = Span(since=midnight, until=utc_now())
    with client.connect(source) as connected:
        this = rounds.Round(
            lake=lake, source=source, stream=source.streams()[0], client=connected, via="backfill"
        )
        report = fetch_span(this, span, again=True)
    assert (report.error, report.requests > 0) == (None, True)
    assert erasure.of_person(lake, person, LOGS).empty
    assert found_in(current(lake), {person}) == {}
    assert problems(world) == []
