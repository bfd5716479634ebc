"""The fields of Sigma rules, and where the records of our streams have them.

`aliases/logsources.csv` has a table of fields for each product and service, and the streams they
are about. A field may have several paths: any of them counts. Names of fields are compared in any
case, because rules spell them differently; `*` at the end of a field stands for the rest of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path as File

from pipelines.detections.paths import Path
from pipelines.schemas import EVENTS

_FOLDER = File(__file__).parent / "aliases"
_MOST_STEPS = 32
EVENTS_STREAM = "events"
"""Where the rules of `product: auditlake` look: the table of all events."""
_SAME, _LIKE = "same", "like"
"""Kinds of rows that refer to another field: of the same table, or of another one."""
_WHOLE = "$"


@dataclass(frozen=True, slots=True)
class Table:
    """The fields of a log source."""

    name: str
    fields: Mapping[str, tuple[Path, ...]]
    """Field in lower case -> its paths; with `*` at its end, `*` in the paths is the rest."""

    def paths(self, field: str) -> tuple[Path, ...]:
        """Return where the values of a field are; empty if the log source has no such field."""
        lower = field.lower()
        if found := self.fields.get(lower):
            return found
        open_ended = [
            name for name in self.fields if name.endswith("*") and lower.startswith(name[:-1])
        ]
        if not open_ended:
            return ()
        longest = max(open_ended, key=len)
        return self._filled(self.fields[longest], field[len(longest) - 1 :])

    def _filled(self, patterns: tuple[Path, ...], rest: str) -> tuple[Path, ...]:
        if not rest or rest.count(".") > _MOST_STEPS or "{" in rest or "}" in rest:
            return ()
        found: list[Path] = []
        for pattern in patterns:
            if pattern.kind == _SAME:
                found += self.paths(rest)
            elif pattern.kind == _LIKE:
                found += table(pattern.text).paths(rest)
            else:
                found.append(Path(pattern.text.replace("*", rest), pattern.kind))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSource:
    """The streams a rule is about, and how their records are read."""

    streams: tuple[str, ...]
    """Such as "okta/system_log": kind and stream; or `EVENTS_STREAM`."""
    table: Table
    each: str = ""
    """The list whose elements are the events of a record; the rule looks at one at a time."""
    kind: str = ""
    """Of a rule over events: the only kind, if it names one."""


def log_source(product: str | None, service: str | None, category: str | None) -> LogSource | str:
    """Return the log source of a rule, or why no stream has it."""
    named = "/".join(part or "*" for part in (product, service or category))
    if product == "auditlake":
        return LogSource(streams=(EVENTS_STREAM,), table=_events(), kind=service or "")
    if category:
        return f"no stream carries the log source {named}"
    for row in _log_sources():
        rest = _matching(row, product or "", service or "")
        if rest is None:
            continue
        if row["refused"]:
            return row["refused"]
        return LogSource(
            streams=tuple(row["streams"].replace("*", rest).split()),
            table=table(row["table"]),
            each=row["each"],
        )
    return f"no stream carries the log source {named}"


def _matching(row: Mapping[str, str], product: str, service: str) -> str | None:
    """Return the part of the service that a `*` stands for; None if the row is of another one."""
    prefix, star, _ = row["service"].partition("*")
    if row["product"] != product.lower() or not service.lower().startswith(prefix):
        return None
    rest = service[len(prefix) :].lower()
    return rest if bool(star) == bool(rest) else None


@cache
def _log_sources() -> tuple[dict[str, str], ...]:
    with (_FOLDER / "logsources.csv").open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


@cache
def table(name: str) -> Table:
    """Return the fields of a file in `aliases`."""
    fields: dict[str, list[Path]] = {}
    with (_FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = "" if row["path"] == _WHOLE else row["path"] or row["field"]
            path = Path(text, row["kind"] or "value")
            fields.setdefault(row["field"].lower(), []).append(path)
    return Table(name, {field: tuple(found) for field, found in fields.items()})


def tables() -> Iterator[Table]:
    """Yield all tables of fields."""
    yield from (
        table(file.stem) for file in sorted(_FOLDER.glob("*.csv")) if file.stem != "logsources"
    )


@cache
def _events() -> Table:
    fields = {name: (Path(name),) for name in EVENTS if name != "targets"}
    parts = {f"targets.{part}": (Path(f"targets.{part}"),) for part in ("id", "name", "type")}
    return Table(EVENTS_STREAM, fields | parts)
