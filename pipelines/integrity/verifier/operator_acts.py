"""Reads and verifies the log of operator actions, and lists the rows they removed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pipelines.integrity.verifier.log_reader import WIDTH, LogFiles, bundle
from pipelines.integrity.verifier.proofs import (
    Invalid,
    leaf_hash,
    parsed,
    read_checkpoint,
    root_of,
    text_of,
)
from pipelines.integrity.verifier.tree import Span, minus

_MOST = 2**20  # acts; a lake of 50 streams needs a century for so many
_FINISHED = "retention finished"  # the rows of the removals among the first `acts` acts are gone
RESTORED = "restore"
"""The act that a backup replaces a table: removed rows may be there again, and others are lost."""


def read(shelf: LogFiles, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Return all acts, oldest first. Raises Invalid if they are not as signed, or no acts."""
    return _parsed(entries(shelf, keys))


def check(listed: Sequence[bytes]) -> None:
    """Raise Invalid unless these entries are acts, and those about the configuration complete."""
    for number, act in enumerate(_parsed(listed)):
        if act.get("act") == "configuration" and not _is_configuration(act):
            raise Invalid(f"act {number:,} is about the configuration, and malformed")


def _parsed(listed: Sequence[bytes]) -> list[dict[str, Any]]:
    found = [parsed(entry) for entry in listed]
    if not all(isinstance(act, dict) for act in found):
        raise Invalid("the log of acts is another log")
    return found


def entries(shelf: LogFiles, keys: Sequence[str]) -> list[bytes]:
    """Return the entries of all acts as signed, oldest first. Raises Invalid like `read`."""
    note = shelf.read("checkpoint")
    if note is None:
        return []
    if shelf.acts and note in shelf.acts:
        return shelf.acts[note]
    head = read_checkpoint(text_of(note), keys)
    found: list[bytes] = []
    if head.size > _MOST:
        raise Invalid(f"the log of acts claims to have {head.size:,} of them")
    for index in range(-(-head.size // WIDTH)):
        found += bundle(shelf, head.size, index)
        if len(found) < min(head.size, (index + 1) * WIDTH):
            break  # a checkpoint of any size can be forged: do not look for all its bundles
    if len(found) != head.size or root_of(list(map(leaf_hash, found))) != head.root:
        raise Invalid("the log of acts is not as it was signed")
    if shelf.acts is not None:
        shelf.acts[note] = found
    return found


def lines(acts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each act as one line of text."""
    for number, act in enumerate(acts):
        rest = {name: value for name, value in act.items() if name not in ("at", "act")}
        about = [f"{name}={_text(value)}" for name, value in rest.items()]
        yield f"{number:,}: {_text(act.get('at'))} {_text(act.get('act'))}: {' '.join(about)}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_configuration(act: Mapping[str, Any]) -> bool:
    try:
        timed = datetime.fromisoformat(act["at"]).tzinfo is not None
    except (LookupError, TypeError, ValueError):
        return False
    state = act.get("now")
    return timed and isinstance(act.get("part"), str) and (state is None or isinstance(state, dict))


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """The rows of a table that recorded acts remove."""

    rows: Sequence[Span] = ()
    erased: Sequence[Span] = ()
    """Those of them that were erased on request."""
    lost: Sequence[Span] = ()
    """Those of them that only a restore has lost; all others are removed by retention."""
    finished: Sequence[Span] = ()
    """Those of them that an act states to be deleted."""


def removed(shelf: LogFiles, log: LogFiles, table: str, keys: Sequence[str]) -> Removed:
    """Return the removed rows of `table`; acts that fail verification are ignored."""
    try:
        acts = read(shelf, keys)
    except Invalid:
        return Removed()
    kinds = [act.get("act") for act in acts]
    restored = len(kinds) - kinds[::-1].index(RESTORED) if RESTORED in kinds else 0
    counts = [act.get("acts") for act in acts[restored:] if act.get("act") == _FINISHED]
    done = max((each for each in counts if type(each) is int and each > 0), default=0)
    others = _listed(log, table, [act for act in acts if act.get("act") != RESTORED])
    return Removed(
        rows=_listed(log, table, acts),
        erased=_listed(log, table, [act for act in acts if act.get("act") == "erasure"]),
        lost=minus(_listed(log, table, [a for a in acts if a.get("act") == RESTORED]), others),
        finished=_listed(log, table, acts[:done]),
    )


def _listed(log: LogFiles, table: str, acts: Sequence[dict[str, Any]]) -> list[Span]:
    spans: set[Span] = set()
    for act in (each for each in acts if each.get("table") == table):
        digest = str(act.get("rows_sha256"))
        if re.fullmatch("[0-9a-f]{64}", digest):
            # The list is a plain file; only its hash is part of the signed act.
            listed = log.read(f"removed/{digest}.json") or b""
            if hashlib.sha256(listed).hexdigest() == digest:
                spans |= _spans(listed)
    return _merge(spans)


def _spans(listed: bytes) -> set[Span]:
    """Return the spans of rows in a list; none unless it is such a list."""
    with suppress(Invalid, TypeError, ValueError):
        found = {(first, until) for first, until in parsed(listed)}
        if all(type(end) is int for span in found for end in span):
            return {(first, until) for first, until in found if 0 <= first < until}
    return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mappings:
    """The signed acts about the mapping versions of one log, up to some moment."""

    versions: frozenset[int] = frozenset()
    """All versions that were ever recorded."""
    newest: int | None = None
    """The version recorded last; None if there is no such act."""
    start: int = 0
    """It derives the events of this row and all later ones."""
    finished: bool = False
    """Whether it derived those of all earlier rows, too."""

    def excuses(self, version: int | None, seq: int, current: int) -> bool:
        """Return True if row `seq` may have an event of `version`, which is not the `current`."""
        if version is None:
            return False
        if self.newest is None:  # signed before such acts were recorded
            return version < current
        if version == self.newest:
            return True
        # A later one, if an older auditlake has been installed again since.
        older = seq < self.start if version < self.newest else version in self.versions
        return older and not self.finished


def mappings(shelf: LogFiles, log: str, keys: Sequence[str]) -> Mappings:
    """Return the statements of the acts about the log, such as okta/system_log. Raises Invalid."""
    found = Mappings()
    for act in read(shelf, keys):
        if act.get("log") != log:
            continue
        if act.get("act") == "mapping":
            version = _number(act, "version")
            versions = found.versions | {version}
            found = Mappings(versions=versions, newest=version, start=_number(act, "from"))
        elif act.get("act") == "renormalised" and act.get("version") == found.newest:
            found = replace(found, finished=True)
    return found if found.newest is None or found.start else replace(found, finished=True)


def _number(act: Mapping[str, Any], name: str) -> int:
    number = act.get(name)
    if type(number) is not int:
        raise Invalid(f"an act about a mapping has no number {name}")
    return number


def _merge(spans: Iterable[Span]) -> list[Span]:
    """Merge overlapping spans, ascending; a resumed removal lists some rows twice."""
    merged: list[Span] = []
    for first, until in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(until, merged[-1][1])
        else:
            merged.append((first, until))
    return merged
