"""Renders events of the simulated company without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from random import Random
from typing import Any

import msgspec

from sandbox import server
from sandbox.company import Company, Happening
from sandbox.service import Stream
from tests.sandbox.setups import ANCHOR

Rendered = tuple[Happening, dict[str, Any]]


def stream_of(kind: str, name: str) -> Stream:
    return next(each for each in server.services()[kind].streams if each.name == name)


@cache
def rendered(kind: str, name: str, events: int = 300, seed: int = 7) -> tuple[Rendered, ...]:
    """Return the events of a working day and of the attacks, each with its decoded record."""
    stream, company, rng = stream_of(kind, name), Company(seed), Random(f"{seed}/{name}")
    ordinary = company.day(stream.habits, date(2026, 11, 17), events, rng)
    return tuple(
        (happening, json.loads(msgspec.json.encode(stream.render(happening, rng))))
        for happening in [*ordinary, *_attacks(stream, company)]
    )


def records(kind: str, name: str) -> list[dict[str, Any]]:
    return [record for _, record in rendered(kind, name)]


def _attacks(stream: Stream, company: Company) -> Iterator[Happening]:
    for step in company.attacks(ANCHOR):
        for habit in stream.habits:
            if step.act in habit.acts:
                yield step.shown_as(habit)
