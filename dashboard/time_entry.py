"""Time ranges as people type them: "17 Nov 08:00", "yesterday", "last 90m", "Mon 16 to 18 Nov".

Times without an offset are in the zone of the page. A text with more than one meaning is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dashboard import times
from dashboard.times import Last, Range

FORMS = (
    "17 Nov 08:00",
    "17 Nov 08:00 to 10:30",
    "16 Nov to 18 Nov",
    "2026-11-17T08:00Z",
    "yesterday",
    "last 90m",
    "around 08:00",
)
"""An example of each form."""

_MARGIN = timedelta(minutes=30)
_UNITS = {"m": "m", "min": "m", "minute": "m", "h": "h", "hour": "h", "d": "d", "day": "d"}
_DAYS = {"w": 7, "week": 7, "month": 30, "year": 365}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MOST = 10_000
_LAST = re.compile(r"(?:(?:last|past) )?(\d+)? ?([a-z]+?)s?")
_RANGE = re.compile(
    r"(?:from )?(.+?)(?: (?:to|until|till|-) | ?(?:\N{EN DASH}|\N{EM DASH}|\.\.) ?)(.+)"
)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[t ]\d\d:?\d\d.*")
_EPOCH = re.compile(r"\d{10}|\d{13}")
_POINT = re.compile(r"(.*?)(?:(?:^|,? | at )(\d{1,2}:\d\d(?::\d\d)?))?")
_DAY_FIRST = re.compile(r"(?:[a-z]+,? )?(\d{1,2})(?:st|nd|rd|th)? ([a-z]{3,})\.?(?:,? (\d{4}))?")
_MONTH_FIRST = re.compile(r"([a-z]{3,})\.? (\d{1,2})(?:st|nd|rd|th)?(?:,? (\d{4}))?")
_ISO_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_AMBIGUOUS = re.compile(r"\d{1,4}[./]\d{1,2}(?:[./]\d{2,4})?\.?(?: .*)?")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class TimeRefused(ValueError):
    """The text is no time range; its message has the reason and the right form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """The time and the zone in which a text was typed."""

    now: datetime
    zone: ZoneInfo

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()

    def at(self, day: date, clock: time = time()) -> datetime:
        return datetime.combine(day, clock, self.zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """An instant, or a day from its first instant to that of the next."""

    since: datetime
    until: datetime

    @property
    def is_day(self) -> bool:
        return self.since != self.until


def parse(text: str, now: datetime, zone: ZoneInfo) -> Range:
    """Return the range that `text` describes; an instant alone is the start of one that ends now.

    Raises TimeRefused.
    """
    typed, clock = " ".join(text.split()).lower(), _Clock(now=now, zone=zone)
    try:
        return _last(typed) or _range(typed, clock)
    except OverflowError:
        raise TimeRefused(f'"{text.strip()}" is outside the calendar') from None


def _last(typed: str) -> Last | None:
    found = _LAST.fullmatch(typed)
    if found is None or (found[1] is None and not typed.startswith(("last ", "past "))):
        return None
    unit, days = _UNITS.get(found[2]), _DAYS.get(found[2])
    if unit is None and days is None:
        return None
    count = int(found[1] or 1) * (days or 1)
    if not 0 < count <= _MOST:
        raise TimeRefused(f'"{typed}": use a number from 1 to {_MOST // (days or 1):,}')
    return Last(count=count, unit=unit or "d")


def _range(typed: str, clock: _Clock) -> Range:
    if not typed:
        raise TimeRefused("enter a time, such as 17 Nov 08:00 or last 90m")
    if typed.startswith("around "):
        point = _point(typed.removeprefix("around "), clock)
        return times.between(point.since - _MARGIN, point.until + _MARGIN)
    if found := _RANGE.fullmatch(typed):
        return _between(_point(found[1], clock), found[2], clock)
    point = _point(typed.removeprefix("since "), clock)
    if point.is_day and not typed.startswith("since "):
        return times.between(point.since, point.until)
    if point.since >= clock.now:
        raise TimeRefused(f'"{typed}" is in the future: add an end, as in 08:00 to 10:00')
    return times.between(point.since, clock.now)


def _between(first: _Point, end: str, clock: _Clock) -> Range:
    last = _point(end, clock, first)
    if last.until <= first.since:
        raise TimeRefused("the end is not after the start: write the earlier time first")
    return times.between(first.since, last.until)


def _point(typed: str, clock: _Clock, first: _Point | None = None) -> _Point:
    """Return a point in time; a time of day alone is on the day of `first`, or the last such."""
    if typed == "now":
        return _instant(clock.now)
    if _EPOCH.fullmatch(typed):
        return _instant(datetime.fromtimestamp(int(typed[:10]), UTC))
    if _ISO.fullmatch(typed):
        return _instant(_iso(typed, clock))
    found = _POINT.fullmatch(typed)
    of_day = _time(found[2]) if found and found[2] else None
    named = found[1] if found else typed
    if not named and of_day:
        return _instant(_nearest(of_day, clock, first))
    day = _day(named, typed, clock)
    if of_day:
        return _instant(clock.at(day, of_day))
    return _Point(since=clock.at(day), until=clock.at(day + timedelta(days=1)))


def _instant(instant: datetime) -> _Point:
    return _Point(since=instant, until=instant)


def _iso(typed: str, clock: _Clock) -> datetime:
    try:
        instant = datetime.fromisoformat(typed.upper())
    except ValueError:
        raise _unknown(typed) from None
    return (instant if instant.tzinfo else instant.replace(tzinfo=clock.zone)).astimezone(UTC)


def _time(typed: str) -> time:
    try:
        return time.fromisoformat(typed.zfill(5) if typed.count(":") == 1 else typed.zfill(8))
    except ValueError:
        raise TimeRefused(f'"{typed}" is no time of day: use 00:00 to 23:59') from None


def _nearest(of_day: time, clock: _Clock, first: _Point | None) -> datetime:
    """Return that time on the day of `first` or the next after it; without it, the last past."""
    if first is None:
        instant = clock.at(clock.today, of_day)
        return instant if instant <= clock.now else clock.at(_shift(clock.today, -1), of_day)
    day = first.since.astimezone(clock.zone).date()
    instant = clock.at(day, of_day)
    return instant if instant > first.since else clock.at(_shift(day, 1), of_day)


def _day(named: str, typed: str, clock: _Clock) -> date:
    match named:
        case "today":
            return clock.today
        case "yesterday":
            return _shift(clock.today, -1)
        case _ if named in _weekday_names():
            return _last_weekday(_WEEKDAYS.index(named[:3]), clock.today)
    if found := _ISO_DAY.fullmatch(named):
        return _date(*map(int, found.groups()), typed=typed)
    if found := _DAY_FIRST.fullmatch(named):
        return _of_month(found[2], found[1], found[3], typed, clock)
    if found := _MONTH_FIRST.fullmatch(named):
        return _of_month(found[1], found[2], found[3], typed, clock)
    if _AMBIGUOUS.fullmatch(named):
        raise TimeRefused(f'"{typed}": day and month could be swapped: write 17 Nov or 2026-11-17')
    raise _unknown(typed)


def _of_month(name: str, day: str, year: str | None, typed: str, clock: _Clock) -> date:
    """Return that day; without a year, the last one that is not in the future."""
    if name[:3] not in _MONTHS:
        raise _unknown(typed)
    month = _MONTHS.index(name[:3]) + 1
    if year:
        return _date(int(year), month, int(day), typed=typed)
    # 29 Feb may be up to eight years back.
    for back in range(9):
        try:
            found = date(clock.today.year - back, month, int(day))
        except ValueError:
            continue
        if found <= clock.today:
            return found
    raise TimeRefused(f'"{typed}" is no day of the calendar')


def _date(year: int, month: int, day: int, *, typed: str) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        raise TimeRefused(f'"{typed}" is no day of the calendar') from None


def _weekday_names() -> set[str]:
    full = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    return {*_WEEKDAYS, *full}


def _last_weekday(weekday: int, today: date) -> date:
    return _shift(today, -((today.weekday() - weekday) % 7))


def _shift(day: date, days: int) -> date:
    return day + timedelta(days=days)


def _unknown(typed: str) -> TimeRefused:
    return TimeRefused(f'"{typed}" is not understood: write it as in {", ".join(FORMS[:4])}')
