"""Up to where each rule has been evaluated on each stream.

A position is a fact that stays true: each rule of this set, with this logic, has been evaluated on
the first n rows of this stream. Sets are recorded in `rulesets` before a position names them, so a
rule has reached the highest position of any set that it is in. A new rule, or one of another
logic, is in none, and starts with the first row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pipelines.detections.aliases import EVENTS_STREAM
from pipelines.detections.compiler import Compiled
from pipelines.detections.correlations import Correlation
from pipelines.detections.ruleset import Ruleset
from pipelines.lake.tables import StreamKey

_MOST_VALUES = 100


class Member(NamedTuple):
    """A rule or correlation, and its logic."""

    id: str
    logic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A stream and its service."""

    key: StreamKey
    kind: str

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.key.stream}"

    def app(self, members: Collection[Member]) -> str:
        """Return the app id of the position that these rules have in the stream."""
        text = "\n".join(sorted("\t".join(member) for member in members))
        return f"detect/{self.key.app}/{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def is_read(self, reads: Collection[str]) -> bool:
        return bool({self.name, EVENTS_STREAM, f"{EVENTS_STREAM}:{self.kind}"} & set(reads))


def reads(rule: Compiled) -> Iterator[str]:
    """Yield the streams that a rule reads; of one over events, with the service it names."""
    for stream in rule.source.streams:
        yield f"{stream}:{rule.source.kind}" if rule.source.kind else stream


def _read_by(rules: Ruleset, one: Compiled | Correlation) -> list[str]:
    if isinstance(one, Compiled):
        return [*reads(one)]
    return [*dict.fromkeys(each for part in one.parts for each in reads(rules.rules[part]))]


def members(rules: Ruleset, log: Log) -> set[Member]:
    """Return the rules and correlations that find something in a stream."""
    return {
        Member(id_, one.rule.logic_hash)
        for id_, one in rules.all().items()
        if id_ not in rules.silent and log.is_read(_read_by(rules, one))
    }


def recorded(rules: Ruleset, only: Collection[Member] | None = None) -> tuple[str, str]:
    """Return the SHA-256 and the JSON of a ruleset, or of some of it, for the table `rulesets`."""
    chosen = None if only is None else {member.id for member in only}
    described = [
        {
            "id": id_,
            "logic": one.rule.logic_hash,
            "level": one.rule.level,
            "file": str(one.rule.file),
            "reads": _read_by(rules, one),
            **({"silent": True} if id_ in rules.silent else {}),
        }
        for id_, one in sorted(rules.all().items())
        if chosen is None or id_ in chosen
    ]
    values = {name: _values(found) for name, found in sorted(rules.placeholders.items())}
    overlay = {"overlay": rules.overlay} if rules.overlay else {}
    text = json.dumps({"rules": described, "values": values, **overlay}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest(), text


def _values(found: Iterable[str]) -> object:
    """Return a list of values, or the digest of a long one."""
    listed = [*found]
    if len(listed) <= _MOST_VALUES:
        return listed
    digest = hashlib.sha256("\n".join(listed).encode()).hexdigest()
    return {"count": len(listed), "sha256": digest}


def sets(texts: Iterable[str], log: Log) -> dict[str, frozenset[Member]]:
    """Return the sets of rules for a stream, by the app id of their position."""
    found = {
        frozenset(member for member, read in _parsed(text) if log.is_read(read)) for text in texts
    }
    return {log.app(each): each for each in found if each}


def reached(
    wanted: Iterable[Member], known: Mapping[str, frozenset[Member]], fences: Mapping[str, int]
) -> dict[Member, int]:
    """Return the position of each rule."""
    found = dict.fromkeys(wanted, 0)
    for app, each in known.items():
        for member in each & found.keys():
            found[member] = max(found[member], fences[app])
    return found


@lru_cache(maxsize=512)
def _parsed(text: str) -> tuple[tuple[Member, frozenset[str]], ...]:
    return tuple(
        (Member(one["id"], one["logic"]), frozenset(one["reads"]))
        for one in json.loads(text)["rules"]
        if not one.get("silent")
    )
