"""Everyday work and the attacks, before a service renders them."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from random import Random
from statistics import mean

from sandbox.company import Company, Habit, Happening
from tests.sandbox.setups import ANCHOR

MONDAY, SATURDAY = date(2026, 11, 16), date(2026, 11, 21)
HABITS = [
    Habit(what="read", weight=9, on="document"),
    Habit(what="appoint", weight=1, by="admin", on="role", whom=True, fails=0.5),
    Habit(what="sync", weight=2, by="system"),
    Habit(what="probe", weight=1, by="stranger"),
]
ACME = Company(7)


def worked(company: Company = ACME, on: date = MONDAY, seed: int = 1) -> list[Happening]:
    return list(company.day(HABITS, on, 500, Random(seed)))


def test_a_weekend_is_quieter_than_a_working_day() -> None:
    assert len(worked(on=SATURDAY)) < len(worked()) / 4
    assert 600 < len(worked()) < 700


def test_actors_and_objects_follow_the_habit() -> None:
    found = worked()
    by = {what: [h for h in found if h.what == what] for what in ("read", "appoint", "sync")}
    assert all(h.thing and h.thing.sort == "document" and h.whom is None for h in by["read"])
    assert all(h.actor.admin and h.whom in ACME.people for h in by["appoint"])
    assert all(h.place is None and h.device is None for h in by["sync"])
    failed = sum(not h.ok for h in by["appoint"])
    assert 0.3 < failed / len(by["appoint"]) < 0.7
    assert all(h.ok for h in by["read"])
    assert not any(h.suspicious for h in found)


def test_a_few_documents_are_read_most() -> None:
    read = Counter(h.thing.name for h in worked() if h.what == "read" and h.thing)
    most = sum(count for _, count in read.most_common(20))
    assert most > sum(read.values()) / 3


def test_a_person_is_in_one_place_on_a_day_whichever_service_looks() -> None:
    elsewhere = Company(7)
    places = {(h.actor.name, h.time.date()): h.place.ip for h in worked() if h.place}
    found = [h for h in worked(elsewhere, seed=2) if (h.actor.name, h.time.date()) in places]
    assert len(found) > 100
    for happening in found:
        assert happening.place
        assert happening.place.ip == places[happening.actor.name, happening.time.date()]


def test_people_work_around_noon_of_their_own_time_zone() -> None:
    hours = [(h.time.hour + h.actor.utc_offset) % 24 for h in worked() if h.actor.kind == "person"]
    assert 11 < mean(hours) < 15


def test_live_events_are_of_people_who_are_at_work() -> None:
    since = ANCHOR.replace(hour=3)
    found = list(ACME.while_passing(HABITS[:1], since, since + timedelta(hours=1), 200, Random(1)))
    assert len(found) in (200, 201)
    assert all(since <= h.time < since + timedelta(hours=1) for h in found)
    assert all(8 <= (h.time.hour + h.actor.utc_offset) % 24 < 19.5 for h in found)


def test_attacks_lie_before_the_anchor_and_are_the_same_every_time() -> None:
    steps = ACME.attacks(ANCHOR)
    assert all(step.time < ANCHOR for step in steps)
    later = ACME.attacks(ANCHOR + timedelta(days=1))
    assert [step.time + timedelta(days=1) for step in steps] == [step.time for step in later]
    assert [(s.act, s.actor) for s in steps] == [(s.act, s.actor) for s in later]


def test_the_takeover_follows_failures_of_many_accounts() -> None:
    steps = [step for step in ACME.attacks(ANCHOR) if step.place.code == "PA"]
    failed = [step for step in steps if not step.ok]
    taken = [step for step in steps if step.ok]
    assert len({step.actor.email for step in failed}) == 45
    assert {step.actor for step in taken} == {ACME.one("Finance")}
    assert failed[0].time < taken[0].time
    assert [step.act for step in taken[:3]] == ["sign_in", "reset_mfa", "enroll_mfa"]


def test_a_failed_second_factor_precedes_the_rogue_grant() -> None:
    recent = ANCHOR - timedelta(days=3)
    steps = [step for step in ACME.attacks(ANCHOR) if step.time > recent]
    assert [step.act for step in steps[:3]] == ["fail_mfa", "sign_in", "grant_admin"]
    assert [step.ok for step in steps[:3]] == [False, True, True]
    assert {step.actor for step in steps[:3]} == {ACME.one("IT")}


def test_a_step_is_suspicious_in_every_service() -> None:
    step = ACME.attacks(ANCHOR)[0]
    first, second = (step.shown_as(Habit(what=what, weight=1)) for what in ("a", "b"))
    assert first.suspicious
    assert second.suspicious
    assert (first.session, first.time, first.actor) == (second.session, second.time, second.actor)
