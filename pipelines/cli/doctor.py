"""Check the lake, every credential and every stream, and report how to fix what fails."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pipelines.errors import AuditlakeError, explained
from pipelines.extraction import client
from pipelines.extraction.client import ServiceClient
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check; `fault` is None where it passed."""

    subject: str
    fault: str | None = None


Connect = Callable[[Source], ServiceClient]
# Somebody waits for the result, so a service that fails is retried once only.
_few_retries = partial(client.connect, retry_policy=client.RetryPolicy(attempts=2))


def examine(
    lake: Lake, sources: Sequence[Source], now: datetime, connect: Connect = _few_retries
) -> Iterator[Check]:
    """Yield a check of the lake and of each stream, as soon as its result is known."""
    yield Check(subject="lake", fault=_lake(lake))
    for source in sources:
        try:
            with explained():
                client = connect(source)
        except AuditlakeError as error:
            yield Check(subject=source.name, fault=str(error))
            continue
        with client:
            for stream in source.streams():
                subject = f"{source.name} {stream.name}"
                yield Check(subject=subject, fault=_stream(client, stream, now))


def _lake(lake: Lake) -> str | None:
    try:
        tables.open_table(lake, "events")
        if lake.local is not None:
            lake.local.mkdir(parents=True, exist_ok=True)
            # Only writing shows that a disk is full or read-only.
            with tempfile.TemporaryFile(dir=lake.local):
                pass
    except (AuditlakeError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{lake.root}: {reason}: set lake.root to a folder this user may write to"
    return None


def _stream(client: ServiceClient, stream: Stream, now: datetime) -> str | None:
    """Fetch the first page of the last hour; return the error message, or None."""
    try:
        with client.reading():
            cursor = stream.begin(now - timedelta(hours=1), now)
            next(stream.pages(client, cursor, now), None)
    except AuditlakeError as error:
        return str(error)
    return None
