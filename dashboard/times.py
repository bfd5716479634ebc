"""Time ranges, their buckets and their labels in a time zone; instants are aware and in UTC.

Buckets follow the wall clock of the zone: a day is 23 or 25 hours long when clocks change, and the
repeated hour is two buckets. The chart's axis is true time, so they don't overlap.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

_UNITS = {"m": ("minute", 60), "h": ("hour", 3600), "d": ("day", 86400)}
_DAY = 86400
_STEPS = [1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600]
_STEPS += [_DAY * days for days in (1, 7, 28, 91, 364)]
_MOST = 10_000  # of any unit: keeps hand-written addresses within the calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """A range that ends now."""

    count: int
    unit: str  # "m", "h" or "d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    since: datetime
    until: datetime


Range = Last | Between
PRESETS = tuple(
    Last(count=count, unit=unit)
    for count, unit in [
        (15, "m"),
        (1, "h"),
        (6, "h"),
        (24, "h"),
        (3, "d"),
        (7, "d"),
        (30, "d"),
        (90, "d"),
        (365, "d"),
    ]
)


def parse(text: str) -> Range | None:
    """Return the range for "7d" or "2026-11-01T00:00:00Z..2026-11-02T00:00:00Z", or None."""
    if found := re.fullmatch(r"([1-9]\d{0,4})([mhd])", text):
        return Last(count=min(int(found[1]), _MOST), unit=found[2])
    since, until = (parse_instant(end) for end in text.partition("..")[::2])
    return between(since, until) if since and until else None


def parse_instant(text: str) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None


def between(since: datetime, until: datetime) -> Between:
    """Return the range in whole seconds, earlier end first; a time without a zone is UTC."""
    first, last = sorted(_in_utc(instant) for instant in (since, until))
    return Between(since=first, until=max(last, first + timedelta(seconds=1)))


def show(span: Range) -> str:
    """Return text that parses to `span`."""
    if isinstance(span, Last):
        return f"{span.count}{span.unit}"
    return f"{instant(span.since)}..{instant(span.until)}"


def instant(time: datetime) -> str:
    """Return the time to the second, as in addresses."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def bounds(span: Range, now: datetime) -> tuple[datetime, datetime]:
    """Return both ends; `now` is rounded up to a minute, so that fresh events are included."""
    if isinstance(span, Between):
        return span.since, span.until
    # For a whole minute the query stays equal, and with it the cached results.
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    return until - timedelta(seconds=span.count * _UNITS[span.unit][1]), until


def around(time: datetime, margin: timedelta = timedelta(hours=12)) -> Between:
    return between(time - margin, time + margin)


def neighbour(since: datetime, until: datetime, zone: ZoneInfo, step: int) -> Between:
    """Return the range of the same length before (-1) or after (1); whole days stay whole."""
    local = [end.astimezone(zone).replace(tzinfo=None) for end in (since, until)]
    whole = all(end == datetime.combine(end, time()) for end in local)
    try:
        if whole:
            shifted = [end + step * (local[1] - local[0]) for end in local]
            return between(*(end.replace(tzinfo=zone) for end in shifted))
        return between(*(end + step * (until - since) for end in (since, until)))
    except OverflowError:
        # The calendar ends here.
        return between(since, until)


def label(span: Range, zone: ZoneInfo) -> str:
    if isinstance(span, Last):
        unit = _UNITS[span.unit][0]
        return f"Last {unit}" if span.count == 1 else f"Last {span.count} {unit}s"
    since, until = (end.astimezone(zone) for end in (span.since, span.until))
    to = f"{until:%H:%M}" if since.date() == until.date() else f"{until:%d %b %H:%M}"
    return f"{since:%d %b %Y %H:%M} \N{EN DASH} {to}"


@functools.cache
def zones() -> tuple[str, ...]:
    """Return the names of all zones, sorted; cached, since finding them reads hundreds of files."""
    return tuple(sorted(available_timezones()))


@functools.lru_cache(maxsize=1000)
def zone(name: str | None) -> ZoneInfo:
    """Return the zone of that name; UTC if there is none."""
    return ZoneInfo(name if name in zones() else "UTC")


def edges(
    since: datetime, until: datetime, zone: ZoneInfo, *, most: int = 110
) -> tuple[datetime, ...]:
    """Return the edges of at most about `most` buckets, the first at or before `since`."""
    span = (until - since).total_seconds()
    step = next((step for step in _STEPS if span <= step * most), _STEPS[-1])
    wall, instants = _floor(since.astimezone(zone).replace(tzinfo=None), step), set[datetime]()
    while not instants or max(instants) < until:
        # Longer steps would get a spurious edge in a repeated hour.
        instants |= _instants(wall, zone, twice=step <= 3600)
        wall += timedelta(seconds=step)
    # Several edges may precede `since`, where clocks are set back: only the last is needed.
    first = max((instant for instant in instants if instant <= since), default=since)
    return tuple(sorted({first} | {instant for instant in instants if instant > first}))


def tick(edges: tuple[datetime, ...]) -> timedelta:
    """Return the longest interval of which every edge is a multiple."""
    return timedelta(seconds=math.gcd(*(int(edge.timestamp()) for edge in edges)))


def ticks(edges: tuple[datetime, ...], zone: ZoneInfo, *, most: int = 9) -> dict[datetime, str]:
    """Return the edges to label on the axis and their labels: a date where a day begins."""
    local = [edge.astimezone(zone) for edge in edges]
    midnights = [edge for edge in local if (edge.hour, edge.minute, edge.second) == (0, 0, 0)]
    marked = midnights if len(midnights) > 2 else _round(local, most)
    return {edge.astimezone(UTC): _axis(edge) for edge in marked[:: -(-len(marked) // most)]}


def stamp(instant: datetime, zone: ZoneInfo) -> str:
    """Return the time to the millisecond with its zone: "23 Nov 2026 09:55:48.120 GMT"."""
    local = instant.astimezone(zone)
    return f"{local:%d %b %Y %H:%M:%S}.{local.microsecond // 1000:03} {local:%Z}"


def to_second(instant: datetime, zone: ZoneInfo) -> str:
    """Return the time to the second: "23 Nov 2026 09:55:48"."""
    return f"{instant.astimezone(zone):%d %b %Y %H:%M:%S}"


def ago(span: timedelta) -> str:
    """Return a duration in its most readable unit: "40 s", "12 min", "5 h", "3 d"."""
    seconds = max(0.0, span.total_seconds())
    # Units begin well above 1, to stay precise: 47 h, not 2 d.
    for unit, size, least in (("d", 86400, 172800), ("h", 3600, 5400), ("min", 60, 90)):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _in_utc(instant: datetime) -> datetime:
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0)


def _floor(wall: datetime, step: int) -> datetime:
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    # Counted from a fixed Monday, so that weeks begin on Mondays and edges stay put.
    if step >= _DAY:
        return midnight - timedelta(days=(midnight.toordinal() - 1) % (step // _DAY))
    return midnight + timedelta(seconds=(wall - midnight).seconds // step * step)


def _instants(wall: datetime, zone: ZoneInfo, *, twice: bool) -> set[datetime]:
    """Return when the clock shows `wall`: two instants if `twice` and it is set back over it."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return {first, second} if twice and first < second else {first}


def _round(local: list[datetime], most: int) -> list[datetime]:
    """Return the edges on the finest round step that has no more than `most` of them."""
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720):
        fit = [edge for edge in local if _minute(edge) % minutes == 0 and edge.second == 0]
        if len(fit) <= most:
            return fit or local
    return local


def _minute(local: datetime) -> int:
    return local.hour * 60 + local.minute


def _axis(local: datetime) -> str:
    if (local.hour, local.minute) == (0, 0):
        return f"{local:%a %d %b}"
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
