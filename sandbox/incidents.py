"""Incidents of five public kinds, played across the services, each with a benign twin.

The twin looks alike but is legitimate: detections have to find the incident and leave the twin
alone. The records of each are known: the answer key. Everything is invented; the
kinds are those of public reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from random import Random
from typing import Any

import msgspec

from sandbox import stories
from sandbox.company import Company, Happening, Step
from sandbox.service import Stream
from sandbox.telling import Scene, Story


@dataclass(frozen=True, slots=True, kw_only=True)
class _Everywhere:
    """A step of an attack, in all services that have an event for it."""

    step: Step

    def shown_in(self, stream: Stream, _name: str) -> Iterator[Happening]:
        for habit in stream.habits:
            if self.step.act in habit.acts:
                yield self.step.shown_as(habit)

    def rendered(self, stream: Stream, happening: Happening, rng: Random) -> bytes:
        return msgspec.json.encode(stream.render(happening, rng))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """A scene of one service."""

    scene: Scene

    def shown_in(self, _stream: Stream, name: str) -> Iterator[Happening]:
        if name == self.scene.stream:
            yield self.scene.happening

    def rendered(self, stream: Stream, happening: Happening, rng: Random) -> bytes:
        raw = msgspec.json.encode(stream.render(happening, rng))
        if not self.scene.changes:
            return raw
        return msgspec.json.encode(_changed(msgspec.json.decode(raw), self.scene.changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    name: str
    title: str
    scenes: tuple[_Everywhere | _Here, ...]
    twin_title: str = ""
    twin: tuple[_Here, ...] = ()
    about: str = ""
    """How the incident goes, in a sentence or two."""


@lru_cache(maxsize=4)
def incidents(company: Company, anchor: datetime) -> tuple[Incident, ...]:
    """Return the incidents at fixed offsets before `anchor`, oldest first."""
    attacks = company.attacks_by_name(anchor)
    return (
        Incident(
            name="stuffing",
            title="Credential stuffing with mass download",
            about="Three addresses try leaked passwords of 45 people. One fits: the attacker "
            "replaces the second factor, forwards mail and downloads all files.",
            scenes=_everywhere(attacks["stuffing"]),
            twin_title="A bulk export for an audit, from the office",
            twin=_here(stories.bulk_export(company, anchor)),
        ),
        Incident(
            name="insider",
            title="An employee copies everything before leaving",
            about="A seller downloads hundreds of files at home and shares some outside.",
            scenes=_everywhere(attacks["insider"]),
        ),
        Incident(
            name="rogue_grant",
            title="An administrator promotes a service account at night",
            about="After a failed second factor, the account gets the highest role and a token.",
            scenes=_everywhere(attacks["rogue_grant"]),
        ),
        *(_told(story, company, anchor) for story in stories.STORIES),
    )


def _told(story: Story, company: Company, anchor: datetime) -> Incident:
    return Incident(
        name=story.name,
        title=story.title,
        about=story.about,
        scenes=_here(story.scenes(company, anchor)),
        twin_title=story.twin_title,
        twin=_here(story.twin(company, anchor)),
    )


def _everywhere(steps: list[Step]) -> tuple[_Everywhere, ...]:
    return tuple(_Everywhere(step=step) for step in steps)


def _here(scenes: Iterator[Scene]) -> tuple[_Here, ...]:
    return tuple(_Here(scene=scene) for scene in scenes)


def _changed(record: Any, changes: Mapping[str, Any]) -> Any:
    """Return the record with other values; objects are merged, everything else is replaced."""
    found = dict(record) if isinstance(record, dict) else {}
    for name, value in changes.items():
        found[name] = _changed(found.get(name), value) if isinstance(value, Mapping) else value
    return found
