"""A lake that an older version wrote opens, polls, verifies and shows in the dashboard."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from streamlit import config
from streamlit.testing.v1 import AppTest

from dashboard import lake as reading
from dashboard import queries
from dashboard.queries import Query
from pipelines import registry, settings
from pipelines.cli.main import main
from pipelines.extraction import client as service_client
from pipelines.extraction import renormalise
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.integrity import bundles, last_signed
from pipelines.lake import (
    coverage,
    formats,
    maintenance,
    parquet,
    raw,
    reconciliation,
    rollup_table,
    tables,
)
from pipelines.lake.maintenance import MinimumAge
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Span
from sandbox.server import Options, Running, running
from sandbox.service import moment
from tests.conftest import World, raw_table
from tests.promises.ledgers import Clock, arrive, difference, poll, spread
from tests.promises.old_lake import ANCHOR, HOST, LOGS, UNREADABLE

REPOSITORY = Path(__file__).parents[2]
ARCHIVES = sorted((REPOSITORY / "tests" / "fixtures" / "lakes").glob("*.tar.xz"))
OKTA, SIGN_INS = LOGS[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    """A lake of an older version, and the vendors as it knows them."""

    vendors: Running
    clock: Clock
    lake: Lake
    sources: list[Source]

    @property
    def world(self) -> World:
        return World(running=self.vendors, lake=self.lake)

    def rows(self) -> dict[StreamKey, pl.DataFrame]:
        return {log: raw_table(self.lake, *log) for log in LOGS}

    def poll(self) -> list[Report]:
        return list(chain.from_iterable(poll(self.lake, s, self.clock) for s in self.sources))

    def difference(self, log: StreamKey) -> str:
        return difference(self.world, *log, [UNREADABLE] if log == OKTA else [])


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def old(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Old]:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    clock = Clock(now=ANCHOR)
    with running(Options(days=0, per_day=0, rate=0), clock) as vendors:
        _show_again(vendors, clock)
        text = Path("auditlake.toml").read_text(encoding="utf-8")
        Path("auditlake.toml").write_text(text.replace(HOST, vendors.base_url), encoding="utf-8")
        chosen = settings.load(Path("auditlake.toml"))
        lake, sources = tables.configured(chosen), registry.sources(chosen)
        _move_memory(lake)
        yield Old(vendors=vendors, clock=clock, lake=lake, sources=sources)


def _show_again(vendors: Running, clock: Clock) -> None:
    """Every record becomes visible when it did: positions of vendors depend on it."""
    lines = [json.loads(line) for line in Path("vendor.ndjson").read_bytes().splitlines()]
    for line in sorted(lines, key=lambda line: line["arrival"]):
        clock.now = moment(line["arrival"])
        vendors.sandbox.log(*line["log"]).append(line["raw"].encode(), line["time"])
    clock.pass_by(minutes=1)


def _move_memory(lake: Lake) -> None:
    """What was signed is remembered by the place of the lake."""
    assert lake.integrity
    (known,) = Path("state/lakes").iterdir()
    known.rename(last_signed.folder(lake, lake.integrity))


_NOT_COMPARED = 3


def _verified(code: int = 0) -> dict[str, int]:
    """How many rows of each raw table are signed; nothing must be found in any table."""
    done = CliRunner().invoke(main, ["verify", "--full", "--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    verdicts = [each for each in json.loads(done.stdout) if each["covered"]]
    assert [each["findings"] for each in verdicts] == [[]] * len(verdicts)
    assert {"events", "rollups"} <= {each["table"] for each in verdicts}
    return {each["table"]: each["size"] for each in verdicts if each["table"].startswith("raw/")}


def test_it_opens_with_all_that_an_older_version_wrote(old: Old) -> None:
    rows = old.rows()
    assert {log: raw.position(old.lake, log).rows for log in LOGS} == {
        log: table.height for log, table in rows.items()
    }
    assert all(raw.position(old.lake, log).cursor for log in LOGS)
    assert set(rows[OKTA]["via"]) == {"poll", "webhook", "backfill"}
    assert {old.difference(log) for log in LOGS} == {""}
    assert (
        rows[SIGN_INS].select(pl.col("event_id").str.split("@").list.first()).is_duplicated().any()
    )
    assert raw.still_rejected(old.lake, OKTA)["raw"].to_list() == [UNREADABLE]
    assert not reconciliation.second_arrivals(old.lake, OKTA, ANCHOR.date()).is_empty()
    assert not any(coverage.entries(old.lake, log).is_empty() for log in LOGS)
    reconciled = tables.scan(old.lake, "reconciliation")
    assert reconciled is not None
    assert reconciled.select(pl.col("pushed").sum()).collect().item() > 0


def test_polling_goes_on_where_it_was(old: Old) -> None:
    before = old.rows()
    assert [(report.error, report.rows) for report in old.poll()] == [(None, 0)] * len(LOGS)
    since = old.clock()
    old.clock.pass_by(hours=3)
    for log in LOGS:
        arrive(old.vendors, *log, spread(since, old.clock() - timedelta(seconds=9), 20))
    assert [(report.error, report.rows) for report in old.poll()] == [(None, 20)] * len(LOGS)
    after = old.rows()
    for log in LOGS:
        assert after[log].head(before[log].height).equals(before[log])
        assert after[log]["event_id"].is_unique().all()
        assert old.difference(log) == ""


def test_reading_its_days_again_finds_nothing_new(old: Old) -> None:
    before = old.rows()
    for source in old.sources:
        with service_client.connect(source, clock=old.clock) as client:
            for stream in source.streams():
                this = Round(lake=old.lake, source=source, stream=stream, client=client,
                             via="backfill", clock=old.clock)  # fmt: skip
                span = Span(since=ANCHOR - timedelta(days=3), until=old.clock())
                report = fetch_span(this, span, again=True)
                assert (report.error, report.rows) == (None, 0)
                assert report.duplicates > 0
    assert all(table.equals(before[log]) for log, table in old.rows().items())


def test_it_is_verified_before_and_after_it_grows(old: Old) -> None:
    sizes = _verified()
    assert sizes == {log.table: table.height for log, table in old.rows().items()}
    since = old.clock()
    old.clock.pass_by(hours=1)
    for log in LOGS:
        arrive(old.vendors, *log, spread(since, old.clock() - timedelta(seconds=9), 5))
    older = any(
        old.world.events(*log)["mapping_version"].min() != source.integration.mapping_version
        for source in old.sources
        for log in LOGS
        if log.integration == source.name
    )
    old.poll()
    grown = {table: size + 5 for table, size in sizes.items()}
    # From this round on it is recorded which version derives the events, and which ones it has not.
    assert _verified(_NOT_COMPARED if older else 0) == grown
    for source in old.sources:
        for history in renormalise.histories(old.lake, source):
            list(renormalise.renormalise(history))
    assert _verified() == grown
    _is_packed_without_another_root(old)
    assert _verified() == grown
    found = CliRunner().invoke(main, ["search", "", "--since", "2026-03-06", "--json"])
    assert (found.exit_code, found.stdout.count("event_uid") > 0) == (0, True), found.output
    for table in ("events", "coverage", *grown):
        handle = tables.open_table(old.lake, table)
        assert handle
        assert formats.of(handle) == formats.FORMAT


def _is_packed_without_another_root(old: Old) -> None:
    before, rows = _checkpoints(), old.rows()
    assert bundles.prune(old.lake, LOGS) > 0
    over = old.clock().date() + timedelta(days=1)
    list(maintenance.maintain(old.lake, LOGS, over, MinimumAge(quiet=timedelta(0))))
    assert _checkpoints() == before
    assert all(table.equals(rows[log]) for log, table in old.rows().items())
    assert not list(Path(old.lake.root, "integrity").glob("*/*/tile/entries"))
    for table, packed in (("events", parquet.ALL_DAYS), (OKTA.table, str(over))):
        handle = tables.open_table(old.lake, table)
        assert handle
        assert handle.metadata().configuration[parquet.PACKED] == packed


def _checkpoints() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("integrity/*/*/checkpoint")}


def test_housekeeping_and_a_new_derivation_change_no_event(old: Old) -> None:
    """Of the same mappings; newer ones give other events of the same records."""
    table = tables.scan(old.lake, "events")
    assert table is not None
    before = table.collect().sort("event_uid")
    list(maintenance.maintain(old.lake, LOGS, old.clock().date()))
    for source in old.sources:
        for history in renormalise.histories(old.lake, source):
            list(renormalise.renormalise(history, everything=True))
            assert renormalise.check(history, rows=1000, seed=1).sound
    table = tables.scan(old.lake, "events")
    assert table is not None
    after = table.collect().sort("event_uid")
    assert after["event_uid"].equals(before["event_uid"])
    if after["mapping_version"].equals(before["mapping_version"]):
        assert after.equals(before)


def test_the_dashboard_shows_its_events(old: Old) -> None:
    opened = reading.Lake(old.lake.root, {})
    shown = opened.look()
    assert shown
    query = Query(since=ANCHOR - timedelta(days=4), until=ANCHOR + timedelta(days=1))
    events = {log: old.world.events(*log) for log in LOGS}
    total = sum(each.height for each in events.values())
    assert total == shown.rows == shown.ask(queries.summary, query).events
    rolled, _ = rollup_table.rolled_up(old.lake)
    assert rolled.height > 0
    newest = events[OKTA].tail(1).row(0, named=True)
    assert shown.ask(queries.event, newest["date"], newest["event_uid"])
    record = opened.record(*OKTA, newest["date"], newest["seq"])
    assert record
    assert record.intact()
    assert opened.access.newest(9)["what"].to_list() == ["searched"]
    assert opened.views.newest(9)["name"].to_list() == ["Failures"]


def test_the_page_shows_its_events(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITLAKE_CONFIG", "none.toml")
    monkeypatch.setenv("AUDITLAKE_LAKE__ROOT", old.lake.root)
    config.set_option("server.address", "127.0.0.1")
    page = AppTest.from_file(str(REPOSITORY / "dashboard" / "navigation.py"), default_timeout=120)
    page.query_params["range"] = "2026-03-02T00:00:00Z..2026-03-07T00:00:00Z"
    page.run()
    assert not page.exception
    assert len(page.dataframe[-1].value) == sum(old.world.events(*log).height for log in LOGS)
