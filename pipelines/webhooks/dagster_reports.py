"""Report received webhooks to Dagster, as asset observations through its REST API.

Not as materialisations: Dagster would then show the checks of the asset as not evaluated.
Each asset is reported at most twice per minute, with the sums since the last report. Reports that
Dagster does not accept are dropped: the lake itself has the data.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from pipelines.extraction.report import Report
from pipelines.sdk.push import Subscription
from pipelines.settings import DagsterSettings, network

_EVERY = 30.0
_DAGSTER_PLUS = (".dagster.cloud", ".dagster.plus")
_log = logging.getLogger(__name__)

_Asset = tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class DagsterReporter:
    """Collects reports per asset until `flush` sends them."""

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    trusted: ssl.SSLContext | bool = True
    _refused: int = 0
    """The status by which Dagster refused the last report, or 0."""
    _sums: dict[_Asset, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, report: Report) -> None:
        """Add a batch that was stored."""
        if not report.rows:
            return
        asset = ("raw", report.integration, report.stream)
        with self._lock:
            known = self._sums.setdefault(asset, {})
            for name, count in (("rows added", report.rows), ("events added", report.events)):
                known[name] = known.get(name, 0) + count
            known |= {"dagster/row_count": report.total, "table version": report.version}

    def report_subscriptions(self, name: str, known: Sequence[Subscription]) -> None:
        """Replace the figures of an integration's subscriptions."""
        expires = [each.expires for each in known if each.expires]
        with self._lock:
            self._sums["push", name] = {
                "subscriptions": len(known),
                "active": sum(each.active for each in known),
                **({"next expiry": min(expires).isoformat()} if expires else {}),
            }

    def flush(self) -> None:
        """Send the collected reports; those that fail are dropped."""
        # Swap under the lock, send without it: a slow Dagster must not delay the receiver.
        with self._lock:
            sums, self._sums = self._sums, {}
        for asset, figures in sums.items():
            with suppress(httpx.HTTPError):
                answer = httpx.post(
                    f"{self.address}/report_asset_observation/",
                    json={"asset_key": list(asset), "metadata": {"via": "webhook", **figures}},
                    headers=dict(self.headers),
                    verify=self.trusted,
                    timeout=10,
                    trust_env=False,
                )
                self._warn_of_refusal(0 if answer.is_success else answer.status_code)

    def _warn_of_refusal(self, status: int) -> None:
        if status and status != self._refused:
            _log.warning(
                "%s answered %d to a report: check dagster.url, dagster.token and the name in "
                "dagster.allowed_hosts", self.address, status,
            )  # fmt: skip
        self._refused = status


@contextmanager
def reporter(dagster: DagsterSettings, ca_bundle: Path | None = None) -> Iterator[DagsterReporter]:
    """Send reports every 30 seconds in a thread, and once more at the end."""
    address = dagster.url or _own_address(dagster)
    created = DagsterReporter(
        address=address,
        headers=_headers(address, dagster.token),
        trusted=network.trusted(ca_bundle) if ca_bundle else True,
    )
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(_EVERY):
            created.flush()
        created.flush()

    thread = threading.Thread(target=work, name="dagster-reporter")
    thread.start()
    try:
        yield created
    finally:
        stop.set()
        thread.join()


def _own_address(dagster: DagsterSettings) -> str:
    # Nothing can connect to the wildcard address that a server listens on.
    host = "127.0.0.1" if dagster.host in ("0.0.0.0", "::") else dagster.host  # noqa: S104 configured
    return dagster.model_copy(update={"host": host}).address


def _headers(address: str, token: SecretStr | None) -> dict[str, str]:
    if token is None:
        return {}
    if (urlsplit(address).hostname or "").endswith(_DAGSTER_PLUS):
        return {"Dagster-Cloud-Api-Token": token.get_secret_value()}
    return {"Authorization": f"Bearer {token.get_secret_value()}"}
