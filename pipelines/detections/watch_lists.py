"""Watch lists: text files of addresses, networks, domains and accounts, as values of placeholders.

A line is a value, the day it was listed, and the day from which it no longer counts; both days may
be left out. Text after `#` is a comment:

    198.51.100.66  2026-11-02  2027-05-01  # scanned us in October
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from ipaddress import ip_address
from pathlib import Path

from pipelines.detections import networks
from pipelines.detections.rules import Problem

MOST_BYTES = 16 << 20
MOST_VALUES = 100_000
_COMMENT = re.compile(r"(^|\s)#.*")
_SPECIAL = re.compile(r"[*?\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchList:
    """The values of a placeholder that count at present."""

    name: str
    file: Path
    values: tuple[str, ...]
    """Texts as a rule would spell them: special characters of Sigma are escaped."""
    newest: date | None
    """When the last of them was listed, if days are given."""
    expired: int
    """How many values no longer count."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    value: str
    listed: date | None
    until: date | None


def read(files: Mapping[str, Path], now: datetime) -> tuple[WatchList, ...]:
    """Return the lists by the names of their placeholders, as they are on the UTC day of `now`."""
    return tuple(_read(name, files[name], now.date()) for name in sorted(files))


def _read(name: str, file: Path, today: date) -> WatchList:
    problems: list[Problem] = []
    entries: list[_Entry] = []
    try:
        for number, line in _lines(file):
            try:
                entries.append(_entry(line))
            except ValueError as error:
                problems.append(Problem(file=file, reason=f"line {number}: {error}"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(Problem(file=file, reason=reason or "cannot be read"))
    valid = [each for each in entries if each.until is None or today < each.until]
    values = tuple(dict.fromkeys(each.value for each in valid))
    if len(values) > MOST_VALUES:
        problems.append(Problem(file=file, reason=f"more than {MOST_VALUES:,} values: divide it"))
        values = ()
    return WatchList(
        name=name,
        file=file,
        values=values,
        newest=max((each.listed for each in valid if each.listed), default=None),
        expired=len(entries) - len(valid),
        problems=tuple(problems[:10]),
    )


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), 1):
        if plain := _COMMENT.sub("", line).strip():
            yield number, plain


def _entry(line: str) -> _Entry:
    match line.split():
        case [value]:
            days: list[date] = []
        case [value, *given] if len(given) <= 2:
            days = [_day(each) for each in given]
        case _:
            raise ValueError("give a value and at most two days, such as 2026-11-02")
    listed, until = [*days, None, None][:2]
    return _Entry(value=_spelled(value), listed=listed, until=until)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("give days such as 2026-11-02 after the value") from None


def _spelled(value: str) -> str:
    """Return a value as a rule would spell it; addresses as `events` has them."""
    if network := networks.parsed(value):
        return str(network)
    try:
        return str(ip_address(value))
    except ValueError:
        return _SPECIAL.sub(r"\\\g<0>", value)
