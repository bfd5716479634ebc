"""Check the lake, witnesses, credentials and streams, and report how to fix what fails."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial

import click

from pipelines import registry
from pipelines.cli import options, status
from pipelines.cli.guide import CONFIGURATION, FAILED
from pipelines.cli.options import as_json
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError, Held, Refused, SignInRefused, explained
from pipelines.extraction import client, expiry
from pipelines.extraction.client import ServiceClient
from pipelines.integrity import witnesses
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.registry import Invalid
from pipelines.sdk.contract import Source, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The result of one check; without `fault` it passed, perhaps with a note or a warning."""

    subject: str
    fault: str | None = None
    note: str | None = None
    warning: str | None = None


Connect = Callable[[Source], ServiceClient]
# Somebody waits for the result, so a service that fails is retried once only.
_few_retries = partial(client.connect, retry_policy=client.RetryPolicy(attempts=2), read_only=True)


@click.command(name="doctor")
@as_json
@click.pass_context
def doctor_(context: click.Context, as_json: bool) -> None:
    """Check the lake, witnesses, credentials and streams, and report how to fix what fails."""
    chosen, lake = options.configured(context)
    checks = []
    sources = registry.judged(chosen)
    for check in examine(lake, sources, utc_now()):
        checks.append(check)
        if not as_json:
            remark = check.fault or check.warning or check.note
            result = "FAIL" if check.fault else "WARN" if check.warning else "ok  "
            options.echo(f"{result}  {check.subject}" + (f": {remark}" if remark else ""))
    if as_json:
        options.echo_json(json.dumps([asdict(check) for check in checks], indent=2))
    if any(isinstance(source, registry.Invalid) for source in sources):
        context.exit(CONFIGURATION)
    if any(check.fault for check in checks):
        context.exit(FAILED)


def examine(
    lake: Lake,
    sources: Sequence[Source | Invalid],
    now: datetime,
    connect: Connect = _few_retries,
) -> Iterator[Check]:
    """Yield a check of the lake, each witness and each stream, as soon as its result is known.

    Changes nothing at a vendor, and an invalid section concerns its own integration only.
    """
    yield Check(subject="lake", fault=_lake(lake))
    yield from _witnesses(lake, now)
    for source in sources:
        if isinstance(source, Invalid):
            faults = source.faults.splitlines()
            yield from (Check(subject=source.name, fault=fault) for fault in faults)
            continue
        try:
            with explained():
                client = connect(source)
        except AuditlakeError as error:
            yield Check(subject=source.name, fault=str(error))
            continue
        with client:
            yield from _connected(lake, source, client, now)


def _witnesses(lake: Lake, now: datetime) -> Iterator[Check]:
    settings = lake.integrity
    if settings is None or not settings.sign:
        return
    for witness in settings.witnesses:
        fault = note = None
        try:
            with explained():
                note = witnesses.health(lake, settings, witness, now)
        except AuditlakeError as error:
            fault = str(error)
        yield Check(subject=f"witness {witness.name}", fault=fault, note=note)


def _connected(lake: Lake, source: Source, client: ServiceClient, now: datetime) -> Iterator[Check]:
    """Yield a check of each stream, and of each credential that ends soon."""
    passed = False
    for check in _streams(source, client, now):
        passed |= check.fault is None
        yield check
    if passed:
        expiry.query(lake, source, client, now)
        for ending in expiry.due(lake, source, now):
            yield Check(subject=source.name, warning=status.ending(ending, now))


def _streams(source: Source, client: ServiceClient, now: datetime) -> Iterator[Check]:
    """Yield a check of each stream; a refusal that several share is described once."""
    refusals: dict[str, str] = {}
    signed_in = True
    for stream in source.streams():
        subject = f"{source.name} {stream.name}"
        error = _fault(client, stream, now) if signed_in else None
        if not signed_in:
            yield Check(subject=subject, fault=f"as {source.name}")
        elif isinstance(error, SignInRefused):
            signed_in = False
            yield Check(subject=source.name, fault=str(error))
            yield Check(subject=subject, fault=f"as {source.name}")
        elif isinstance(error, Held):
            yield Check(subject=subject, note=str(error))
        else:
            yield Check(subject=subject, fault=_once(error, subject, refusals))


def _once(error: AuditlakeError | None, subject: str, refusals: dict[str, str]) -> str | None:
    """Return the text of an error, or a reference to the stream whose refusal is the same."""
    if not isinstance(error, Refused):
        return None if error is None else str(error)
    # Only the address before it depends on the stream.
    reason = str(error).partition(" answered ")[2] or str(error)
    if reason in refusals:
        return f"as {refusals[reason]}"
    refusals[reason] = subject
    return str(error)


def _lake(lake: Lake) -> str | None:
    try:
        tables.open_table(lake, "events")
        if lake.local is not None:
            lake.local.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Only writing shows that a disk is full or read-only.
            with tempfile.TemporaryFile(dir=lake.local) as file:
                file.write(bytes(4096))
        tables.require_safe_store(lake)
    except (AuditlakeError, OSError) as error:
        if lake.local is None:
            return str(error)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"{lake.root}: {reason}: set lake.root to a folder this user may write to"
    return None


def _fault(client: ServiceClient, stream: Stream, now: datetime) -> AuditlakeError | None:
    """Fetch the first page of the last hour, and return the error, or None."""
    try:
        with client.reading():
            cursor = stream.begin(now - timedelta(hours=1), now)
            pages = stream.pages(client, cursor, now)
            # Without any of these, a page only notes that a failed query was divided.
            next((one for one in pages if one.records or one.covers or one.gaps), None)
    except AuditlakeError as error:
        return error
    return None
