"""The fictional company at work: everyday activity, and three attacks for detections to find.

A person's place and device on a day depend only on the seed, the person and the day, and all
services share the attacks, so each of them records the same company in its own format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import accumulate
from random import Random
from typing import Literal

from sandbox import cast
from sandbox.cast import Account, Device, Place, Sort, Thing

Role = Literal["person", "admin", "service", "system", "stranger"]
"""The actor of an event: an employee, an admin, a service account, the vendor, a stranger."""
Act = Literal[
    "sign_in",
    "fail_mfa",
    "lock_account",
    "detect_threat",
    "reset_mfa",
    "enroll_mfa",
    "open_app",
    "download",
    "export",
    "share_outside",
    "forward_mail",
    "grant_admin",
    "revoke_admin",
    "create_token",
    "weaken_policy",
]
"""The steps of the attacks; each service maps them to its own events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """One type of event that a service records: its frequency, actor and object."""

    what: str
    """The service's own name for the event."""
    weight: float
    by: Role = "person"
    on: Sort | None = None
    whom: bool = False
    """Whether the event also affects a person, such as a new member of a group."""
    fails: float = 0.0
    """The fraction that fails."""
    acts: tuple[Act, ...] = ()
    """The attack steps that appear as this event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened, before a service renders it in its own format."""

    time: datetime
    what: str
    """The name of the event, as in the service's habit."""
    actor: Account
    place: Place | None
    device: Device | None
    ok: bool
    thing: Thing | None
    whom: Account | None
    session: str
    suspicious: bool = False
    """Whether it is part of an attack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an attack."""

    time: datetime
    act: Act
    actor: Account
    place: Place
    device: Device
    ok: bool = True
    thing: Thing | None = None
    whom: Account | None = None

    def shown_as(self, habit: Habit) -> Happening:
        """Return the step as an event of a service."""
        return Happening(
            time=self.time,
            what=habit.what,
            actor=self.actor,
            place=self.place,
            device=self.device,
            ok=self.ok,
            thing=self.thing,
            whom=self.whom,
            session=_session(Random(f"{self.actor.email}/{self.place.ip}")),
            suspicious=True,
        )


Whereabouts = tuple[Place | None, Device | None, str]


class Company:
    """The company's people and things, generated from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.people = cast.people(Random(f"{seed}/people"))
        self.services = cast.service_accounts()
        self.system = Account(kind="system", name="System")
        self.things = cast.things(self.people)
        self._who: dict[Role, list[Account]] = {
            "person": self.people,
            "admin": [person for person in self.people if person.admin],
            "service": self.services,
            "system": [self.system],
            "stranger": cast.strangers(),
        }
        self._days: dict[tuple[Account, int], Whereabouts] = {}

    def day(
        self, habits: Sequence[Habit], on: date, events: float, rng: Random
    ) -> Iterator[Happening]:
        """Yield about `events` events, fewer at weekends, in no particular order."""
        for habit in _choose(habits, events * _busy(on), rng):
            actor = rng.choice(self._who[habit.by])
            yield self._happening(habit, _moment(actor, on, rng), actor, rng)

    def while_passing(
        self, habits: Sequence[Habit], since: datetime, until: datetime, events: float, rng: Random
    ) -> Iterator[Happening]:
        """Yield about `events` events, spread evenly, by people who are at work at that hour."""
        milliseconds = int((until - since).total_seconds() * 1000)
        for habit in _choose(habits, events, rng):
            when = since + timedelta(milliseconds=rng.randrange(milliseconds))
            who = self._who[habit.by]
            # At hours when nobody works, anybody may act.
            actor = rng.choice([each for each in who if _at_work(each, when)] or who)
            yield self._happening(habit, when, actor, rng)

    def attacks(self, anchor: datetime) -> list[Step]:
        """Return the steps of all attacks, at fixed offsets before `anchor`."""
        return [step for steps in self.attacks_by_name(anchor).values() for step in steps]

    def attacks_by_name(self, anchor: datetime) -> dict[str, list[Step]]:
        """Return the attacks that every service takes part in, oldest first."""
        return {
            "stuffing": [*_stuffing(self, anchor - timedelta(days=11, hours=7))],
            "insider": [*_insider(self, anchor - timedelta(days=5, hours=16))],
            "rogue_grant": [*_rogue_grant(self, anchor - timedelta(days=2, hours=9))],
        }

    def one(self, department: str) -> Account:
        """Return the last person of a department, the same one on every call."""
        return [person for person in self.people if person.department == department][-1]

    def _happening(self, habit: Habit, when: datetime, actor: Account, rng: Random) -> Happening:
        place, device, session = self.whereabouts(actor, when)
        return Happening(
            time=when,
            what=habit.what,
            actor=actor,
            place=place,
            device=device,
            ok=rng.random() >= habit.fails,
            thing=self._thing(habit.on, rng) if habit.on else None,
            whom=rng.choice(self.people) if habit.whom else None,
            session=session,
        )

    def _thing(self, sort: Sort, rng: Random) -> Thing:
        return rng.choices(self.things[sort], cum_weights=self._popularity[sort])[0]

    @cached_property
    def _popularity(self) -> dict[Sort, list[float]]:
        return {
            sort: list(accumulate(1 / (rank + 3) for rank in range(len(things))))
            for sort, things in self.things.items()
        }

    def whereabouts(self, actor: Account, when: datetime) -> Whereabouts:
        """Return an account's place, device and session for that day."""
        key = actor, when.toordinal()
        if key not in self._days:
            # Not the stream's generator: every service has to see the person in the same place.
            rng = Random(f"{self.seed}/{actor.name}/{key[1]}")
            place = rng.choice(actor.places) if actor.places else None
            device = rng.choice(actor.devices) if actor.devices else None
            self._days[key] = place, device, _session(rng)
        return self._days[key]


def _choose(habits: Sequence[Habit], events: float, rng: Random) -> list[Habit]:
    weights = list(accumulate(habit.weight for habit in habits))
    # Rounded up or down at random, so that fractions of an event average out.
    return rng.choices(habits, cum_weights=weights, k=int(events + rng.random()))


def _session(rng: Random) -> str:
    return f"{rng.getrandbits(96):024x}"


def _busy(day: date) -> float:
    """Return the activity of a day: low at weekends, about 1 on average over a week."""
    return 0.3 if day.weekday() >= 5 else 1.28


def _moment(actor: Account, day: date, rng: Random) -> datetime:
    """Return a time on that local day: around working hours for people, any time for machines."""
    hour = rng.random() * 24
    if actor.kind == "person":
        hour = min(max(rng.gauss(13, 2.7), 0.0), 23.99) - actor.utc_offset
    return datetime.combine(day, time.min, UTC) + timedelta(milliseconds=int(hour * 3_600_000))


def _at_work(actor: Account, when: datetime) -> bool:
    local = when + timedelta(hours=actor.utc_offset)
    return actor.kind != "person" or 8 <= local.hour < 19


def _stuffing(company: Company, start: datetime) -> Iterator[Step]:
    """Credential stuffing from abroad, then the takeover of one account."""
    places, device = cast.attackers_places(), cast.SCRIPT
    victim = company.one("Finance")
    targets = company.people[:45]
    for attempt in range(180):
        when = start + timedelta(seconds=9 * attempt)
        target, place = targets[attempt % len(targets)], places[attempt % 3]
        yield Step(time=when, act="sign_in", actor=target, place=place, device=device, ok=False)
        if attempt % 40 == 39:
            yield Step(
                time=when, act="lock_account", actor=target, place=place, device=device, ok=False
            )
            yield Step(
                time=when, act="detect_threat", actor=target, place=place, device=device, ok=False
            )
    yield from _takeover(company, victim, places[0], start + timedelta(minutes=31))


def _takeover(company: Company, victim: Account, place: Place, start: datetime) -> Iterator[Step]:
    def step(seconds: float, act: Act, thing: Thing | None = None) -> Step:
        when = start + timedelta(seconds=seconds)
        whom = victim if act in ("reset_mfa", "enroll_mfa") else None
        return Step(
            time=when, act=act, actor=victim, place=place, device=device, thing=thing, whom=whom
        )

    device = victim.devices[0]
    yield step(0, "sign_in")
    yield step(240, "reset_mfa")
    yield step(300, "enroll_mfa")
    for nth, app in enumerate(company.things["app"][:6]):
        yield step(400 + 50 * nth, "open_app", app)
    yield step(780, "forward_mail")
    for nth in range(160):
        documents = company.things["document"]
        yield step(900 + 11 * nth, "download", documents[nth % len(documents)])
    yield step(2700, "export", company.things["report"][0])
    yield step(2760, "create_token", company.things["token"][1])


def _insider(company: Company, start: datetime) -> Iterator[Step]:
    """An employee who is about to leave copies everything home."""
    insider = company.one("Sales")
    documents = company.things["document"]

    def step(seconds: float, act: Act, thing: Thing | None = None) -> Step:
        return Step(
            time=start + timedelta(seconds=seconds),
            act=act,
            actor=insider,
            place=insider.places[0],
            device=insider.devices[0],
            thing=thing,
        )

    yield step(0, "sign_in")
    yield step(30, "open_app", company.things["app"][0])
    for nth in range(320):
        yield step(60 + 8 * nth, "download", documents[nth % len(documents)])
    for nth in range(6):
        yield step(2700 + 40 * nth, "share_outside", documents[nth])
    yield step(3000, "export", company.things["report"][2])


def _rogue_grant(company: Company, start: datetime) -> Iterator[Step]:
    """At night an administrator, after a failed MFA, promotes a service account."""
    admin, accomplice = company.one("IT"), company.services[1]
    guard = company.one("Security")
    super_admin = company.things["role"][0]

    def step(
        minutes: float,
        act: Act,
        thing: Thing | None,
        whom: Account | None = None,
        by: Account = admin,
    ) -> Step:
        return Step(
            time=start + timedelta(minutes=minutes),
            act=act,
            actor=by,
            place=by.places[0],
            device=by.devices[0],
            ok=act != "fail_mfa",
            thing=thing,
            whom=whom,
        )

    yield step(-1, "fail_mfa", None)
    yield step(0, "sign_in", None)
    yield step(4, "grant_admin", super_admin, accomplice)
    yield step(9, "weaken_policy", company.things["policy"][6])
    yield step(13, "create_token", company.things["token"][0])
    yield step(25, "export", company.things["report"][0], by=accomplice)
    yield step(330, "revoke_admin", super_admin, accomplice, by=guard)
