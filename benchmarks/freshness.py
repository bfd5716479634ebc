"""Latency of events: `python benchmarks/freshness.py [--seconds 60] [--rate 50]`.

The sandbox generates `--rate` events per second over all eight services and pushes them as the
vendors do; `auditlake receive` receives them. The latency runs from the acknowledgement of a
delivery, or from the moment the vendor's log shows the event if that is later, until the row is
committed to `events`, and until the dashboard's reader returns it; for the events that a rule
matches, also until their finding is committed, and until a receiver of alerts has its signed
webhook. All rules of the program are evaluated as well. Pushing starts `--lead` seconds
before the measurement, because Opsgenie's log shows an event two minutes after its webhook. The
same run also measures polling alone, every ten seconds as Dagster's sensors do, from the moment the
vendor shows the event.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import httpx
import polars as pl

sys.path[0] = str(Path(__file__).parent.parent)  # here, "dashboard" is a benchmark

from benchmarks.told import RULE_ID, Receiver  # noqa: E402
from dashboard.lake import Lake as Shown  # noqa: E402
from pipelines import registry, settings  # noqa: E402
from pipelines.cli import config_file  # noqa: E402
from pipelines.extraction import rounds  # noqa: E402
from pipelines.lake import tables  # noqa: E402
from pipelines.webhooks import subscriptions  # noqa: E402
from pipelines.webhooks.spool import configured_spool  # noqa: E402
from sandbox import server  # noqa: E402

POLL_EVERY = 10.0
LOOK_EVERY = 0.5
SETTLE = 15.0
KEY = ("integration", "stream", "event_id")
Key = tuple[str, str, str]
STEPS = {
    "events": "`events`",
    "dashboard": "the dashboard",
    "finding": "`findings`",
    "told": "the receiver",
}
USED: dict[str, float] = {}
"""CPU use of each server in cores, during the half with pushes."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--rate", type=float, default=50.0, help="events per second, all services")
    options.add_argument("--lead", type=float, default=130.0)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pushed = measured(Path(folder) / "pushed", given, push=True)
        polled = measured(Path(folder) / "polled", given, push=False)
    report(pushed, polled, given)


def measured(folder: Path, given: argparse.Namespace, *, push: bool) -> pl.DataFrame:
    """Return one row per event: kind, and seconds until each of `STEPS`."""
    folder.mkdir()
    alerts = Receiver()
    ports = free_ports()
    base_url, receiver = (f"http://127.0.0.1:{port}" for port in ports)
    sizes = ["--days", "1", "--per-day", "50", "--rate", str(given.rate)]
    ready = f"{base_url}/_sandbox/requests/okta"
    sandbox = running(folder, ready, "sandbox", "--port", str(ports[0]), *sizes)
    with sandbox, alerts.running() as address:
        run = Run(folder, base_url, receiver, alerts, address)
        rounds.poll(run.lake, run.sources)
        if push:
            ready = f"{receiver}/-/health"
            with running(folder, ready, "receive", "--port", str(ports[1])):
                run.subscribe()
                time.sleep(given.lead)
                with run.watched():
                    time.sleep(given.seconds)
                    run.ended = datetime.now(UTC)
                    time.sleep(SETTLE)
            run.note_deliveries()
        else:
            with run.watched():
                poll_for(run, given.seconds)
                run.ended = datetime.now(UTC)
                poll_for(run, 1)
        rounds.poll(run.lake, run.sources)
        return run.delays(push=push)


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:  # fmt: skip  # noqa: E501
        return one.getsockname()[1], two.getsockname()[1]


@contextmanager
def running(folder: Path, answers: str, *arguments: str) -> Iterator[None]:
    """Run one of auditlake's servers in its own process until the block ends."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(answers).is_success:
                    break
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        used = usage.ru_utime + usage.ru_stime
        USED.setdefault(arguments[0], used / (time.monotonic() - began))


def poll_for(run: Run, seconds: float) -> None:
    """Run rounds of all sources, as far apart as Dagster's sensors run them."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        rounds.poll(run.lake, run.sources)
        time.sleep(max(0.0, POLL_EVERY - (time.monotonic() - began)))


class Run:
    """A lake filled from a sandbox, and the times of its events."""

    def __init__(
        self, folder: Path, base_url: str, receiver: str, alerts: Receiver, address: str
    ) -> None:
        keys = server.settings(base_url)
        for name, each in keys.items():
            if registry.kind(name).push:
                each["webhook_secret"] = secrets.token_hex(32)
        path = folder / "auditlake.toml"
        written = config_file.document(keys, str(folder / "data"), receiver)
        path.write_text(written + alerts.settings(folder, address))
        self.alerts = alerts
        os.environ["HOME"] = str(folder)  # use fresh signing keys, not the user's
        self.base_url, self.root = base_url, folder / "data"
        self.chosen = settings.load(path)
        self.sources, self.lake = registry.sources(self.chosen), tables.configured(self.chosen)
        self.began = self.ended = datetime.now(UTC)
        self.acknowledged: dict[Key, datetime] = {}
        self.shown: dict[Key, datetime] = {}

    def subscribe(self) -> None:
        """Register webhooks by the vendors' APIs, or as an administrator would in a console."""
        root = configured_spool(self.chosen, self.lake).root
        for source in self.sources:
            if (push := source.integration.push) is None:
                continue
            at = subscriptions.endpoint(self.chosen, source)
            if push.subscription_api:
                subscriptions.register(source, at, root, datetime.now(UTC))
                continue
            shown = {"Authorization": f"Bearer {at.secret.get_secret_value()}"}
            webhook = {"address": at.address, "headers": shown}
            httpx.post(f"{self.base_url}/_sandbox/webhooks/{source.kind}", json=webhook)
        self.began = datetime.now(UTC)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record when the dashboard's reader first returns each event."""
        self.began, stop = datetime.now(UTC), threading.Event()
        lake = Shown(str(self.root), {})

        def work() -> None:
            while not stop.wait(LOOK_EVERY):
                if snapshot := lake.look():
                    recent = pl.col("ingested_at") > datetime.now(UTC) - timedelta(seconds=SETTLE)
                    found = snapshot.events.filter(recent).select(KEY).collect()
                    now = datetime.now(UTC)
                    for key in found.iter_rows():
                        self.shown.setdefault(key, now)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def note_deliveries(self) -> None:
        """Record when each event's delivery was first acknowledged, by the sandbox's ID."""
        for source in self.sources:
            answer = httpx.get(f"{self.base_url}/_sandbox/pushes/{source.kind}", timeout=60)
            for attempt in map(json.loads, answer.text.splitlines()):
                if attempt["fate"] == "delivered":
                    at = datetime.fromisoformat(attempt["at"])
                    for each in attempt["carries"]:
                        key = (source.name, each["stream"], each["id"])
                        self.acknowledged[key] = min(at, self.acknowledged.get(key, at))

    def delays(self, *, push: bool) -> pl.DataFrame:
        """Return each event's latency, from its acknowledgement or its appearance at the vendor."""
        committed, found = self.commits(), self.findings()
        told, rows = self.alerts.told(self.lake), list[tuple[str | float | None, ...]]()

        for source in self.sources:
            for stream in source.streams():
                for id_, key, arrival in self.arrivals(source.name, stream.name):
                    pushed = self.acknowledged.get((source.name, stream.name, id_))
                    start = max(arrival, pushed) if pushed else arrival
                    wanted = self.began <= start <= self.ended and (pushed or not push)
                    if wanted and key in committed:
                        event_uid, at = committed[key]
                        finding = found.get(event_uid)
                        times = (at, self.shown.get(key), *(
                            (finding[1], told.get(finding[0])) if finding else (None, None)
                        ))  # fmt: skip
                        took = ((each - start).total_seconds() if each else None for each in times)
                        rows.append((source.kind, *took))
        schema = {"kind": pl.String, **dict.fromkeys(STEPS, pl.Float64)}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def arrivals(self, name: str, stream: str) -> Iterator[tuple[str, Key, datetime]]:
        """Yield (the sandbox's ID, our key, when the vendor showed it) of each event."""
        table = tables.scan(self.lake, f"raw/{name}/{stream}")
        ids = dict(table.select("raw_sha256", "event_id").collect().iter_rows()) if table is not None else {}  # fmt: skip  # noqa: E501
        ledger = httpx.get(f"{self.base_url}/_sandbox/ledger/{name}/{stream}", timeout=60)
        for entry in map(json.loads, ledger.text.splitlines()):
            ours = ids.get(entry["sha256"], entry["id"])
            yield entry["id"], (name, stream, ours), datetime.fromisoformat(entry["arrival"])

    def commits(self) -> dict[Key, tuple[str, datetime]]:
        """Return uid and time of each event: the time of the commit that added its file."""
        found: dict[Key, tuple[str, datetime]] = {}
        for at, rows in self.added("events", [*KEY, "event_uid"]):
            for *key, uid in rows.iter_rows():
                found.setdefault((key[0], key[1], key[2]), (uid, at))
        return found

    def findings(self) -> dict[str, tuple[str, datetime]]:
        """Return uid and time of the finding of each event, by the event's uid."""
        found: dict[str, tuple[str, datetime]] = {}
        for at, rows in self.added("findings", ["rule_id", "finding_uid", "event_uids"]):
            ours = rows.filter(pl.col("rule_id") == RULE_ID).explode("event_uids")
            for _, uid, event_uid in ours.iter_rows():
                found.setdefault(event_uid, (uid, at))
        return found

    def added(self, table: str, columns: list[str]) -> Iterator[tuple[datetime, pl.DataFrame]]:
        """Yield the rows of each file of a table, with the time of its commit, oldest first."""
        for commit in sorted((self.root / table / "_delta_log").glob("*.json")):
            at = datetime.fromtimestamp(commit.stat().st_mtime, UTC)
            for action in map(json.loads, commit.read_text().splitlines()):
                if added := action.get("add"):
                    file = self.root / table / unquote(added["path"])
                    yield at, pl.read_parquet(file, columns=columns).select(columns)


def report(pushed: pl.DataFrame, polled: pl.DataFrame, given: argparse.Namespace) -> None:
    print(f"{given.rate:g} events/s for {given.seconds:g} s, all services; seconds, median and p95")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[1]:.1f} (5 minutes); {cpu()}")
    titles = "".join(f"{f'to {title}':>18}" for title in STEPS.values())
    print(f"{'':24}{'events':>8}{titles}")
    for name, frame in (("pushed", pushed), ("polled every 10 s", polled)):
        line(name, frame)
        for (kind,), part in frame.sort("kind").group_by("kind", maintain_order=True):
            line(f"  {kind}", part)


def cpu() -> str:
    """Return the CPU use of the servers over their whole run, as text."""
    return ", ".join(f"{name} {used:.0%} of a core" for name, used in USED.items())


def line(name: str, frame: pl.DataFrame) -> None:
    cells = [f"{name:24}{frame.height:8,}"]
    for column in STEPS:
        values = frame[column].drop_nulls()
        if values.len():
            cells.append(f"{values.median():10.2f}{values.quantile(0.95):8.2f}")
    print("".join(cells))


if __name__ == "__main__":
    main()
