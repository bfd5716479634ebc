"""The means to tell an incident: who acts, from where, and the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sandbox import cast
from sandbox.cast import Account, Device, Place, Thing
from sandbox.company import Company, Happening


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Something that one stream records."""

    stream: str
    """Such as "okta/system_log"."""
    happening: Happening
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Members of the record that differ from those of an everyday event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    name: str
    title: str
    about: str
    scenes: Callable[[Company, datetime], Iterator[Scene]]
    twin_title: str
    twin: Callable[[Company, datetime], Iterator[Scene]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrator:
    """Who acts, from where, since when."""

    start: datetime
    actor: Account
    place: Place
    device: Device
    session: str
    suspicious: bool = True

    def scene(
        self,
        minutes: float,
        stream: str,
        what: str,
        *,
        thing: Thing | None = None,
        whom: Account | None = None,
        ok: bool = True,
        changes: Mapping[str, Any] | None = None,
    ) -> Scene:
        happening = Happening(
            time=self.start + timedelta(minutes=minutes),
            what=what,
            actor=self.actor,
            place=self.place,
            device=self.device,
            ok=ok,
            thing=thing,
            whom=whom,
            session=self.session,
            suspicious=self.suspicious,
        )
        return Scene(stream=stream, happening=happening, changes=changes or {})


def attacker(company: Company, start: datetime, actor: Account, nth: int) -> Narrator:
    """Return an attacker who acts as somebody else, with another browser."""
    own = company.whereabouts(actor, start)[1]
    others = [device for device in cast.strangers()[0].devices[1:] if device is not own]
    return Narrator(
        start=start,
        actor=actor,
        place=cast.attackers_places()[nth],
        device=others[0],
        session=f"{nth + 0xA77AC7:024x}",
    )


def at_work(company: Company, start: datetime, actor: Account) -> Narrator:
    """Return a person who acts as on every day, from their own place and device."""
    place, device, session = company.whereabouts(actor, start)
    return Narrator(
        start=start,
        actor=actor,
        place=place or actor.places[0],
        device=device or actor.devices[0],
        session=session,
        suspicious=False,
    )


def thing(sort: cast.Sort, name: str) -> Thing:
    return Thing(sort=sort, name=name)
