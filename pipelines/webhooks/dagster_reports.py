"""Telling Dagster what was received: external materialisations, by its web server's own API.

A stream is told of at most twice a minute, with the sums since then. Where no Dagster answers,
nothing is told: the lake itself holds all of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from pipelines.extraction.report import Report
from pipelines.sdk.push import Subscription
from pipelines.settings import Listen

_EVERY = 30.0

_Asset = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class DagsterReporter:
    """What is to be told; `tell` sends it."""

    address: str
    _sums: dict[_Asset, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, report: Report) -> None:
        """A batch of a stream has landed."""
        if not report.rows:
            return
        asset = ("raw", report.integration, report.stream)
        with self._lock:
            known = self._sums.setdefault(asset, {})
            for name, count in (("rows added", report.rows), ("events added", report.events)):
                known[name] = known.get(name, 0) + count
            known |= {"dagster/row_count": report.total, "table version": report.version}

    def subscribed(self, name: str, known: Sequence[Subscription]) -> None:
        """The subscriptions of an integration, after they were made or looked at."""
        ends = [each.expires for each in known if each.expires]
        with self._lock:
            self._sums["push", name] = {
                "subscriptions": len(known),
                "active": sum(each.active for each in known),
                **({"first ends": min(ends).isoformat()} if ends else {}),
            }

    def tell(self) -> None:
        """All that has come together."""
        with self._lock:
            sums, self._sums = self._sums, {}
        for asset, figures in sums.items():
            with suppress(httpx.HTTPError):
                httpx.post(
                    f"{self.address}/report_asset_materialization/",
                    json={"asset_key": list(asset), "metadata": {"via": "webhook", **figures}},
                    timeout=10,
                    trust_env=False,
                )


@contextmanager
def announcer(dagster: Listen) -> Iterator[DagsterReporter]:
    """Tells now and then, and a last time at the end."""
    host = "127.0.0.1" if dagster.host in ("0.0.0.0", "::") else dagster.host  # noqa: S104 asked for
    made = DagsterReporter(address=f"http://{host}:{dagster.port}")
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(_EVERY):
            made.tell()
        made.tell()

    thread = threading.Thread(target=work, name="announcer")
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()
