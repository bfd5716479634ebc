"""Versions of one record: when two contents of an id differ, and which of them `events` shows.

A later version that differs is stored under the vendor's id, a mark and a hash of its content.
Pure; the verifier makes the same choice with the same functions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

import msgspec
import polars as pl

from pipelines.sdk import json_records

MARK = "~version:"
"""Follows the vendor's id in the event_id of a later version; ids that contain it are rejected."""
POLLED = ("poll", "backfill")
"""The `via` of records that the vendor itself returned; others could be sent by anybody."""
MOST = 3
"""Versions of a record that are stored, of those pushed and of those polled."""
SAME_TIME = timedelta(seconds=1)
"""Some vendors push a time with less precision than their API returns."""
_WAYS = {"poll": "polled", "backfill": "polled", "webhook": "pushed", "replay": "replayed"}
_DEPTH = 64
"""Values nested deeper are compared as text."""
_UNCOUNTABLE = (ValueError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a vendor's records with the same id are compared."""

    volatile: tuple[str, ...] = ()
    """Paths that may differ each time a record is read or sent."""
    unordered: bool = False
    """Whether lists may be in another order each time."""
    pushed_as: Mapping[str, str] = field(default_factory=dict)
    """Path in a pushed record -> path of the same value in the polled one, where they differ."""
    pushed_only: bool = False
    """Whether only the values in `pushed_as` are pushed."""


class Content(NamedTuple):
    """The content of a record, as far as it counts."""

    pushed: bool
    whole: Any
    """Everything but nulls and volatile values."""
    shared: Any
    """The same with values at equal paths, whether pushed or polled."""
    hash: str
    """Equal for equal contents that arrived the same way."""


def record_id() -> pl.Expr:
    """Return the event_id without the mark of a later version."""
    return pl.col("event_id").str.replace(f"{MARK}[0-9a-f]*$", "")


def is_later() -> pl.Expr:
    """Return the condition for a later version of a record."""
    return pl.col("event_id").str.contains(MARK, literal=True)


def marked(record: str, content: Content) -> str:
    """Return the event_id of a later version with this content."""
    return f"{record}{MARK}{content.hash}"


def is_polled(via: str) -> bool:
    return via in POLLED


def superseded() -> pl.Expr:
    """Return the condition for rows whose event another version of the record replaces.

    The newest polled version is shown. Of pushes alone it is the first: if polling had not
    confirmed that one, a polled version would be stored.
    """
    polled = pl.col("seq").filter(pl.col("via").is_in(POLLED))
    shown = pl.coalesce(polled.max(), pl.col("seq").min())
    return pl.col("seq") != shown.over(record_id(), pl.col("time").dt.date())


def content(record: bytes, *, pushed: bool, rules: Comparison) -> Content:
    """Return the content of a record; if it cannot be parsed, its text."""
    whole = _loaded(record, rules.unordered)
    for path in rules.volatile:
        _pop(whole, path)
    text = _text(whole)
    digest = hashlib.sha256((b"pushed\n" if pushed else b"") + text).hexdigest()[:32]
    return Content(pushed, whole, _shared(text, pushed, rules), digest)


def is_known(new: Content, stored: Sequence[Content]) -> bool:
    """Return whether the stored versions of a record, the first one first, make this one needless.

    A push adds nothing to a polled record that it agrees with. A polled record adds nothing to the
    push that is shown if they agree and carry the same values.
    """
    if any(each.hash == new.hash for each in stored):
        return True
    if new.pushed:
        return any(not each.pushed and agree(each.shared, new.shared) for each in stored)
    shown = stored[0]
    if not all(each.pushed for each in stored) or not agree(shown.shared, new.shared):
        return False
    return not (_lacks(shown.shared, new.shared) or _lacks(new.shared, shown.shared))


class Difference(NamedTuple):
    """A record of which contents that contradict each other are stored."""

    record: str
    pushed: bool
    """Whether a pushed version is among them."""
    words: str
    """The rows, how they arrived, and which of them `events` shows."""


def differences(versions: pl.DataFrame, rules: Comparison) -> Iterator[Difference]:
    """Yield the records that are stored with contents that contradict each other.

    `versions` has event_id, time, via, seq and raw of all versions of some records.
    """
    rows = versions.with_columns(record=record_id(), shown=~superseded()).sort("seq")
    for (record, *_), each in rows.group_by("record", maintain_order=True):
        columns = each.select("raw", "via").iter_rows()
        contents = [content(raw.encode(), pushed=not is_polled(via), rules=rules)
                    for raw, via in columns]  # fmt: skip
        if _contradict(contents):
            pushed = any(one.pushed for one in contents)
            yield Difference(str(record), pushed, _words(str(record), each))


def _words(record: str, rows: pl.DataFrame) -> str:
    ways = ", ".join(
        f"row {seq:,} {_WAYS.get(via, via)}" for seq, via in rows.select("seq", "via").iter_rows()
    )
    shown = ", ".join(f"row {seq:,}" for seq in rows.filter("shown")["seq"])
    full = rows.group_by(pl.col("via").is_in(POLLED)).len().filter(pl.col("len") >= MOST).height
    return f"{record}: {ways}; events shows {shown}{'; later ones are not stored' * bool(full)}"


def _contradict(versions: Sequence[Content]) -> bool:
    """Return whether versions differ in a value that both have, rather than complete each other."""
    pushed = [each for each in versions if each.pushed]
    polled = [each for each in versions if not each.pushed]
    if any(len({each.hash for each in alike}) > 1 for alike in (pushed, polled)):
        return True
    return any(not agree(a.shared, b.shared) for a in pushed for b in polled)


def agree(one: Any, other: Any) -> bool:
    """Return whether two values are equal wherever both have a value."""
    if _is_empty(one) or _is_empty(other):
        return True
    match one, other:
        case dict(), dict():
            return all(agree(one[name], other[name]) for name in one.keys() & other.keys())
        case list(), list():
            return len(one) == len(other) and all(map(agree, one, other))
    return _alike(one, other)


def _lacks(one: Any, other: Any) -> bool:
    """Return whether `one`, which agrees with `other`, has no value where `other` has one."""
    if _is_empty(one) or _is_empty(other):
        return not _is_empty(other)
    match one, other:
        case dict(), dict():
            return any(_lacks(one.get(name), value) for name, value in other.items())
        case list(), list():
            return any(map(_lacks, one, other))
    return False


def _alike(one: Any, other: Any) -> bool:
    """Return whether two values are the same number, text, address or time."""
    if one == other:
        return True
    first, second = (x if isinstance(x, str) else _text(x).decode() for x in (one, other))
    return first == second or _address(first) == _address(second) or _is_time(first, second)


def _address(text: str) -> IPv4Address | IPv6Address | str:
    """Return the address that a text is, as IPv4 if it was only mapped to IPv6, or the text."""
    try:
        found = ip_address(text)
    except ValueError:
        return text
    return getattr(found, "ipv4_mapped", None) or found


def _is_time(one: str, other: str) -> bool:
    """Return whether two texts are the same time, as a push may give it with less precision."""
    try:
        between = datetime.fromisoformat(one) - datetime.fromisoformat(other)
    except (ValueError, TypeError):
        return False
    return abs(between) <= SAME_TIME


def _is_empty(value: Any) -> bool:
    match value:
        case dict():
            return all(map(_is_empty, value.values()))
        case list():
            return all(map(_is_empty, value))
    return value is None or value == ""


def _loaded(record: bytes, unordered: bool) -> Any:
    try:
        value = _plain(json_records.load(record), unordered)
        _text(value)
    except _UNCOUNTABLE:
        return record.decode(errors="replace")
    return value


def _plain(value: Any, unordered: bool, depth: int = 0) -> Any:
    """Return a value without the members that are null, its lists sorted if `unordered`."""
    match value:
        case dict() | list() if depth == _DEPTH:
            return _text(value).decode()
        case dict():
            return {k: _plain(v, unordered, depth + 1) for k, v in value.items() if v is not None}
        case list():
            plain = [_plain(item, unordered, depth + 1) for item in value]
            return sorted(plain, key=_text) if unordered else plain
    return value


def _text(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _shared(text: bytes, pushed: bool, rules: Comparison) -> Any:
    """Return the common part of a record, of whose plain content this is the text.

    Of a push, that includes everything else it carries, which no polled record confirms.
    """
    value = msgspec.json.decode(text)
    moved: dict[str, Any] = {}
    for theirs, ours in rules.pushed_as.items():
        # A push that has a value under both names could show one and be compared by the other.
        found = [_pop(value, path) for path in ((theirs, ours) if pushed else (ours,))]
        found = [each for each in found if each is not None]
        if found:
            _put(moved, ours, found[0] if len(found) == 1 else found)
    if not rules.pushed_as or not isinstance(value, dict):
        return value
    rest = {} if rules.pushed_only and not pushed else value
    return {"moved": moved, "rest": rest}


def _pop(value: Any, path: str) -> Any:
    """Remove and return the value at a path; None if there is none."""
    *above, last = path.split(".")
    for step in above:
        value = value.get(step) if isinstance(value, dict) else None
    return value.pop(last, None) if isinstance(value, dict) else None


def _put(value: Any, path: str, found: Any) -> None:
    *above, last = path.split(".")
    for step in above:
        value = value.setdefault(step, {}) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value[last] = found
