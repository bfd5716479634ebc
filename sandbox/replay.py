"""Recorded vendor records, moved to the present and served instead of generated ones.

`DIR/<kind>/<stream>.ndjson`, or `DIR/<kind>.ndjson` for a kind's first stream, holds one record per
line: the vendor's own, or an envelope {"kind": ..., "stream": ..., "raw": record}, whose `stream`
decides where its record goes. Streams without records stay empty, and no new records follow.

All times of a stream are shifted by the same number of seconds, so that its newest record is just
before now. Records that would then be older than the vendor's retention are compressed, in
proportion, between the start of that window and the oldest record within it. Only the text of the
event time is replaced, in its own format; every other byte stays. A record without a usable time is
served unchanged, in its place in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from sandbox.service import Chunk, Micros, Record, Service, Stream, at, decoded, micros, moment

_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", re.ASCII
)
_SECOND = 1_000_000


class _Envelope(msgspec.Struct, frozen=True):
    kind: str
    stream: str
    raw: msgspec.Raw


_envelope = msgspec.json.Decoder(_Envelope)


def recorded(service: Service, stream: Stream, folder: Path, anchor: datetime) -> Iterator[Chunk]:
    """Yield a stream's recorded records as one chunk, read and moved on first use."""
    yield Chunk(start=0, make=lambda: moved(list(_lines(service, stream, folder)), stream, anchor))


def moved(lines: list[bytes], stream: Stream, anchor: datetime) -> list[Record]:
    """Return the records with their times moved to just before `anchor`, in order of time."""
    found = [_timed(line, stream) for line in lines]
    target = _targets([time for _, time in found if time is not None], stream.keeps, micros(anchor))
    records, last = [], micros(anchor) - _SECOND
    for line, (path, time) in zip(lines, found, strict=True):
        raw = None if time is None else _with_time(line, path, target[time])
        if raw is not None:
            # Records without a time inherit `last`, and so stay behind their predecessor.
            last = time_of(at(path)(decoded(raw))) or last
        records.append(Record(last, last, line if raw is None else raw))
    return sorted(records, key=lambda record: record.arrival)


def _timed(line: bytes, stream: Stream) -> tuple[str, Micros | None]:
    """Return the path and value of a record's time; pushed records may have another shape."""
    value = decoded(line)
    for path in (stream.time, *stream.also_time):
        if (time := time_of(at(path)(value))) is not None:
            return path, time
    return stream.time, None


def time_of(value: object) -> Micros | None:
    """Parse RFC 3339 text, zone optional, or a Unix time in s, ms, us or ns; else return None."""
    match value:
        case str() if found := _TEXT.fullmatch(value):
            try:
                day_and_second = datetime.fromisoformat(f"{found[1]}T{found[3]}+00:00")
            except ValueError:
                return None
            fraction = int((found[4] or "").ljust(6, "0")[:6])
            return micros(day_and_second - _offset(found[5])) + fraction
        case bool():  # a bool is an int, too
            return None
        case int():
            return value * _SECOND // _parts(value)
        case float():
            return int(value * _SECOND / _parts(value))
    return None


def _lines(service: Service, stream: Stream, folder: Path) -> Iterator[bytes]:
    own, shared = folder / service.kind / f"{stream.name}.ndjson", folder / f"{service.kind}.ndjson"
    if own.exists():
        for line in _read(own):
            yield (_opened(line) or (stream.name, line))[1]
    if shared.exists():
        for line in _read(shared):
            name, raw = _opened(line) or (service.streams[0].name, line)
            if name == stream.name:
                yield raw


def _read(path: Path) -> Iterator[bytes]:
    return (line.strip() for line in path.read_bytes().split(b"\n") if line.strip())


def _opened(line: bytes) -> tuple[str, bytes] | None:
    """Return (stream, record) of an envelope, or None for a bare record."""
    try:
        envelope = _envelope.decode(line)
    except msgspec.DecodeError:
        return None
    return envelope.stream, bytes(envelope.raw)


def _targets(times: list[Micros], keeps: timedelta, anchor: Micros) -> dict[Micros, Micros]:
    """Return the new time of each recorded time, keeping their order."""
    if not times:
        return {}
    # Whole seconds only, so that the fractions of all times stay as they were recorded.
    shift = ((anchor - max(times)) // _SECOND - 1) * _SECOND
    # A margin keeps the oldest records from expiring while they are read.
    opens = anchor - (keeps - min(keeps / 10, timedelta(days=1))) // timedelta(microseconds=1)
    oldest = min(times) + shift
    inside = min(time + shift for time in times if time + shift >= opens)

    def target(time: Micros) -> Micros:
        if time >= inside:
            return time
        return opens + (time - oldest) * (inside - opens) // (inside - oldest)

    return {time: target(time + shift) for time in times}


def _with_time(raw: bytes, path: str, time: Micros) -> bytes | None:
    """Return the record with another event time, or None if its text cannot be located."""
    pick = at(path)
    old = pick(decoded(raw))
    new = _in_format(old, time)
    written, rewritten = msgspec.json.encode(old), msgspec.json.encode(new)
    # The same text may occur in other members: only one replacement changes the event time.
    for found in re.finditer(re.escape(written), raw):
        candidate = raw[: found.start()] + rewritten + raw[found.end() :]
        if pick(decoded(candidate)) == new:
            return candidate
    return None


def _in_format(old: Any, time: Micros) -> Any:
    """Return `time` in the format of `old`."""
    if isinstance(old, str) and (found := _TEXT.fullmatch(old)):
        local = moment(time) + _offset(found[5])
        digits = found[4] or ""
        fraction = f"{local.microsecond:06d}"[: len(digits)] + digits[6:]
        return (
            f"{local:%Y-%m-%d}{found[2]}{local:%H:%M:%S}"
            f"{'.' if digits else ''}{fraction}{found[5] or ''}"
        )
    parts = _parts(old)
    return time * parts // _SECOND if isinstance(old, int) else time * parts / _SECOND


def _parts(value: float) -> int:
    """Return the units per second of a Unix time (1, 10**3, 10**6, 10**9), judged by its size."""
    return next((10**n for n in (0, 3, 6) if value < 10 ** (n + 11)), 10**9)


def _offset(zone: str | None) -> timedelta:
    if zone in (None, "", "Z"):
        return timedelta(0)
    return datetime.strptime(str(zone), "%z").utcoffset() or timedelta(0)
