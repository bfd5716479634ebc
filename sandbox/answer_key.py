"""The answer key of the incidents: which records belong to each, and which to its twin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from sandbox.company import Company
from sandbox.generation import Span, played_in
from sandbox.incidents import incidents
from sandbox.service import Stream, identity, moment


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A record that belongs to an incident or to its twin."""

    stream: str
    """Such as "okta/system_log"."""
    id: str
    time: str
    sha256: str
    """Of the exact bytes, since some logs have no ids."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """The answer key of an incident."""

    name: str
    title: str
    about: str
    events: list[Answer]
    twin_title: str
    twin: list[Answer]


def answers(streams: Iterable[tuple[str, Stream, Span]], seed: int) -> list[Answers]:
    """Return the answer keys, oldest incident first; `streams`: kind, stream and span of each."""
    company, chosen = Company(seed), list(streams)
    found: dict[tuple[str, bool], list[Answer]] = {}
    for kind, stream, span in chosen:
        name = f"{kind}/{stream.name}"
        for played in played_in(stream, name, company, span):
            record = played.record
            answer = Answer(
                stream=name,
                id=identity(stream.identify, record.raw),
                time=moment(record.time).isoformat(),
                sha256=hashlib.sha256(record.raw).hexdigest(),
            )
            found.setdefault((played.incident.name, played.benign), []).append(answer)
    return [
        Answers(
            name=each.name,
            title=each.title,
            about=each.about,
            events=_in_order(found.get((each.name, False), [])),
            twin_title=each.twin_title,
            twin=_in_order(found.get((each.name, True), [])),
        )
        for each in incidents(company, chosen[0][2].anchor)
    ]


def _in_order(found: list[Answer]) -> list[Answer]:
    return sorted(found, key=lambda answer: (answer.time, answer.stream))
