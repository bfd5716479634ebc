"""When the credentials of an integration end, as its service reported last.

A service is queried once an hour at most, apart from the rounds. The answer is kept in the
folder that this user's processes share, and not in the lake, because losing it costs one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from pipelines import disk
from pipelines.errors import AuditlakeError, explained
from pipelines.extraction import client as service_client
from pipelines.extraction import schedule
from pipelines.extraction.client import ServiceClient
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.sdk.endings import Ending

_EVERY = timedelta(hours=1)
# Nothing depends on the answer, so a service that fails is left alone until the next time.
_once = partial(
    service_client.connect, retry_policy=service_client.RetryPolicy(attempts=1), read_only=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reported:
    """The ends that a service reported at a time."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    endings: list[Ending]


def refresh(
    lake: Lake,
    sources: Sequence[Source],
    now: datetime,
    connect: Callable[[Source], ServiceClient] = _once,
) -> None:
    """Query the services that report ends, unless they were queried within the last hour.

    With a credential that another machine polls with, no request is sent.
    """
    for source in sources:
        known = _load(lake, source)
        if source.integration.reported_endings is None:
            continue
        # A time in the future is void: the clock was set back.
        if known and timedelta(0) <= now - known.at < _EVERY:
            continue
        with (
            suppress(AuditlakeError),
            explained(),
            schedule.leased(lake, source),
            connect(source) as client,
        ):
            query(lake, source, client, now)


def query(lake: Lake, source: Source, client: ServiceClient, now: datetime) -> None:
    """Query a service for the ends of its credentials, and keep the answer for `status`.

    That a service reports none, or refuses to, is no error.
    """
    found: list[Ending] = []
    if report := source.integration.reported_endings:
        with suppress(AuditlakeError), client.reading():
            found = list(report(source.settings, client))
        path = _file(lake, source)
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk.write_atomically(
                path, msgspec.json.encode(_Reported(at=now, endings=found)), durable=False
            )


def due(lake: Lake, source: Source, now: datetime) -> Iterator[Ending]:
    """Yield the known ends that are so near that it is time to act."""
    known = _load(lake, source)
    for ending in (*source.integration.endings(source.settings), *(known.endings if known else ())):
        if now >= ending.at - ending.ahead:
            yield ending


def _load(lake: Lake, source: Source) -> _Reported | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(_file(lake, source).read_bytes(), type=_Reported)
    return None


def _file(lake: Lake, source: Source) -> Path:
    return schedule.folder(lake) / f"{source.name}.ends"
