"""Makes a small lake to keep: `python -m tests.promises.old_lake ARCHIVE.tar.xz`.

The clocks of the vendors and of the lake begin at ANCHOR, so the records do not depend on the day
it is run; keys and the names of logs and files differ from run to run.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter
from pathlib import Path

from click.testing import CliRunner

from dashboard import lake as reading
from pipelines import registry, settings
from pipelines.cli import config_file
from pipelines.cli.main import main
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.backfill import fetch_span
from pipelines.extraction.report import Report
from pipelines.extraction.rounds import Round
from pipelines.lake import maintenance, reconciliation, tables
from pipelines.lake.maintenance import MinimumAge
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page, Span
from sandbox.server import Options, Running, running
from tests.promises.ledgers import Clock, poll

ANCHOR = datetime(2026, 3, 6, 12, tzinfo=UTC)
OPTIONS = Options(seed=8, days=3, per_day=20, rate=0.03, anchor=ANCHOR)
NAMES = ("auditlake.toml", "data", "state", "vendor.ndjson")
"""The configuration, the lake, the keys and what was signed, and what the vendors have shown."""
HOST = "http://127.0.0.1:8700"
"""Where the configuration says that the vendors are."""
LOGS = [
    StreamKey("okta", "system_log"),
    StreamKey("entra_id", "sign_ins"),
    StreamKey("entra_id", "directory_audits"),
    StreamKey("jumpcloud", "directory_insights"),
]
SMALL = MinimumAge(files=timedelta(0))
UNREADABLE = b'{"uuid": 7, "note": "its id is no text, and it has no time"}'


def make(folder: Path) -> None:
    """Three days of history, then rounds, pushes, a backfill and maintenance, in `folder`."""
    clock = Clock(now=ANCHOR)
    with running(OPTIONS, clock) as vendors, chdir(folder):
        _configure(vendors)
        chosen = settings.load(Path("auditlake.toml"))
        lake, sources = tables.configured(chosen), registry.sources(chosen)
        for _ in _days(lake, sources, vendors, clock):
            _unharmed(chain.from_iterable(poll(lake, source, clock) for source in sources))
        _backfill(lake, sources[0], clock)
        for source in sources:
            for stream in source.streams():
                reconciliation.reconcile(lake, source, stream, clock())
        list(maintenance.maintain(lake, LOGS, clock().date(), SMALL))
        _look_around(lake, clock())
        # Not the sign-ins: 0.1.0 reported older versions of a record as missing events.
        signed = ["--table", LOGS[0].table, "--table", LOGS[3].table]
        done = CliRunner().invoke(main, ["verify", "--full", *signed], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        Path("vendor.ndjson").write_bytes(b"".join(_shown(vendors)))
        text = Path("auditlake.toml").read_text(encoding="utf-8")
        Path("auditlake.toml").write_text(text.replace(vendors.base_url, HOST), encoding="utf-8")


def _configure(vendors: Running) -> None:
    found = vendors.settings()
    found["okta"]["history"] = "2d"  # the day before is for the backfill
    found["entra_id"]["streams"] = ["sign_ins", "directory_audits"]
    kinds = {kind: found[kind] for kind in ("okta", "entra_id", "jumpcloud")}
    Path("auditlake.toml").write_text(config_file.document(kinds, "data", integrity="state"))


def _days(lake: Lake, sources: list[Source], vendors: Running, clock: Clock) -> Iterator[None]:
    """What happens, each step before a round."""
    yield
    for number in range(6):
        newest = max(vendors.sandbox.log(*LOGS[1]).visible(), key=attrgetter("time"))
        clock.pass_by(minutes=40)
        if number == 2:
            changed = json.loads(newest.raw) | {"riskState": "atRisk"}
            vendors.sandbox.append(*LOGS[1], [json.dumps(changed).encode()])
        if number == 3:
            vendors.sandbox.append(*LOGS[0], [UNREADABLE], time=clock().isoformat())
        if number in (1, 4):
            _push(lake, sources[0], vendors, clock)
        yield


def _push(lake: Lake, okta: Source, vendors: Running, clock: Clock) -> None:
    """The newest records come by a webhook before they are polled."""
    records = [record.raw for record in vendors.sandbox.log(*LOGS[0]).visible()[-3:]]
    with service_client.connect(okta, clock=clock) as client:
        this = Round(lake=lake, source=okta, stream=okta.streams()[0], client=client,
                     via="webhook", clock=clock)  # fmt: skip
        _unharmed([rounds.push(this, [Page(records=records, cursor="")])])


def _backfill(lake: Lake, okta: Source, clock: Clock) -> None:
    with service_client.connect(okta, clock=clock) as client:
        this = Round(lake=lake, source=okta, stream=okta.streams()[0], client=client,
                     via="backfill", clock=clock)  # fmt: skip
        _unharmed([fetch_span(this, Span(since=ANCHOR - timedelta(days=3), until=clock()))])


def _look_around(lake: Lake, now: datetime) -> None:
    """What the dashboard itself writes."""
    opened = reading.Lake(lake.root, {})
    opened.access.add(now, who="ada@acme.example", what="searched", about="", events=9, version=1)
    opened.views.add(now, who="ada@acme.example", name="Failures", address="f=outcome%3Afailure")


def _unharmed(reports: Iterable[Report]) -> None:
    for report in reports:
        assert report.error is None, report.error


def _shown(vendors: Running) -> Iterator[bytes]:
    """All that the vendors have shown, in order of arrival; times in microseconds since 1970."""
    for log in LOGS:
        for record in vendors.sandbox.log(*log).visible():
            line = {"log": log, "time": record.time, "arrival": record.arrival}
            yield json.dumps({**line, "raw": record.raw.decode()}).encode() + b"\n"


def pack(folder: Path, archive: Path) -> None:
    """Put what `make` made in an archive, without this machine's users and locks."""

    def plain(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
        found.uid = found.gid = 0
        found.uname = found.gname = ""
        return None if found.name.endswith(".lock") else found

    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for name in NAMES:
            packed.add(folder / name, name, filter=plain)


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    with tempfile.TemporaryDirectory() as made:
        make(Path(made))
        pack(Path(made), Path(sys.argv[1]))
