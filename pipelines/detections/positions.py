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


_ByReads = tuple[tuple[frozenset[str], frozenset[Member]], ...]
"""The streams that are read -> the rules that read them."""


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


def read_by(rules: Ruleset, one: Compiled | Correlation) -> list[str]:
    """Return the streams that a rule reads, or the rules of a correlation, each once."""
    if isinstance(one, Compiled):
        return [*reads(one)]
    return [*dict.fromkeys(each for part in one.parts for each in reads(rules.rules[part]))]


@lru_cache(maxsize=256)
def members(rules: Ruleset, log: Log) -> frozenset[Member]:
    """Return the rules and correlations that find something in a stream."""
    return _reading(_members(rules), log)


@lru_cache(maxsize=4)
def _members(rules: Ruleset) -> _ByReads:
    return _by_reads(
        (Member(id_, one.rule.logic_hash), read_by(rules, one))
        for id_, one in rules.all().items()
        if id_ not in rules.silent
    )


def _by_reads(found: Iterable[tuple[Member, Iterable[str]]]) -> _ByReads:
    """Return members by what they read: many read the same."""
    made: dict[frozenset[str], set[Member]] = {}
    for member, read in found:
        made.setdefault(frozenset(read), set()).add(member)
    return tuple((read, frozenset(each)) for read, each in made.items())


def _reading(found: _ByReads, log: Log) -> frozenset[Member]:
    return frozenset().union(*(each for read, each in found if log.is_read(read)))


def recorded(rules: Ruleset, only: Collection[Member] | None = None) -> tuple[str, str]:
    """Return the SHA-256 and the JSON of a ruleset, or of some of it, for the table `rulesets`."""
    return _recorded(rules, None if only is None else frozenset(member.id for member in only))


@lru_cache(maxsize=64)
def _recorded(rules: Ruleset, chosen: frozenset[str] | None) -> tuple[str, str]:
    described = [
        {
            "id": id_,
            "logic": one.rule.logic_hash,
            "level": one.rule.level,
            "file": str(one.rule.file),
            "reads": read_by(rules, one),
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
    found = (_set(text, log) for text in texts)
    return {app: each for app, each in found if each}


@lru_cache(maxsize=4096)
def _set(text: str, log: Log) -> tuple[str, frozenset[Member]]:
    found = _reading(_parsed(text), log)
    return log.app(found), found


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
def _parsed(text: str) -> _ByReads:
    return _by_reads(
        (Member(one["id"], one["logic"]), one["reads"])
        for one in json.loads(text)["rules"]
        if not one.get("silent")
    )
