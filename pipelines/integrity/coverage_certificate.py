"""Coverage certificates: for one span of time, how completely each stream was fetched; signed.

A certificate is a C2SP signed note: text for people, with one signature per key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import datetime

from pipelines.errors import LakeError
from pipelines.integrity import keys, note
from pipelines.integrity.verifier import audit
from pipelines.lake import spans, stream_state, tables
from pipelines.lake.stream_state import History, Key
from pipelines.lake.tables import Lake
from pipelines.sdk.pages import Gap, Span


def make(lake: Lake, span: Span, now: datetime, names: Collection[str] | None = None) -> bytes:
    """Return the signed certificate of all streams, or only of those of these integrations.

    Raises LakeError if signing is off or nothing was polled yet.
    """
    settings = lake.integrity
    if settings is None or not settings.sign:
        raise LakeError("certificates are signed: set integrity.sign = true")
    known = _histories(lake)
    histories = {key: one for key, one in known.items() if names is None or key[0] in names}
    if not histories:
        raise LakeError("nothing was polled yet: run `auditlake poll`")
    return note.signed("\n".join(_lines(histories, span, now)) + "\n", keys.signing(settings))


def _histories(lake: Lake) -> dict[Key, History]:
    known, rows = tables.scan(lake, "streams"), tables.scan(lake, "coverage")
    facts = {} if known is None else stream_state.facts(known)
    found = {} if rows is None else stream_state.histories(rows, facts)
    return {key: History(facts=each) for key, each in facts.items()} | found


def _lines(histories: dict[Key, History], span: Span, now: datetime) -> Iterator[str]:
    parts_of = {key: open_parts(each, span, now) for key, each in sorted(histories.items())}
    complete = sum(not parts for parts in parts_of.values())
    yield audit.CERTIFICATE
    yield f"time: {span.since.isoformat()} to {span.until.isoformat()}"
    yield f"made: {now.isoformat()}"
    yield f"complete: {complete} of {len(parts_of)} streams"
    for (integration, stream), parts in parts_of.items():
        name = f"{_plain(integration)} {_plain(stream)}"
        yield from (f"{name}: {part}" for part in parts or ["complete"])


def open_parts(
    history: History,
    span: Span,
    now: datetime,
    shown: Callable[[datetime], str] = datetime.isoformat,
) -> list[str]:
    """Return a line per part of the span that is missing, or that late events may still change."""
    known = stream_state.coverage(history, now)
    missing = stream_state.uncovered(history, known, span)
    settling = [Gap(span=one, reason="late events may still come") for one in known.settling]
    parts = [("missing", gap) for gap in missing]
    parts += [("settling", gap) for gap in spans.clipped(settling, span)]
    return [
        f"{word} {shown(gap.span.since)} to {shown(gap.span.until)}: {_plain(gap.reason)}"
        for word, gap in sorted(parts, key=lambda part: part[1].span.since)
    ]


def _plain(text: str) -> str:
    # Reasons may quote a vendor: a line break in one would forge a line of the certificate.
    return "".join(char if char.isprintable() else " " for char in text)
