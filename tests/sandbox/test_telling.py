"""Who acts in a story, from where."""

from __future__ import annotations

from datetime import timedelta

from sandbox import cast
from sandbox.company import Company
from sandbox.telling import at_work, attacker
from tests.sandbox.setups import ANCHOR

COMPANY = Company(7)
VICTIM = COMPANY.one("Legal")


def test_an_attacker_acts_as_the_victim_with_another_browser_from_another_country() -> None:
    thief, own = attacker(COMPANY, ANCHOR, VICTIM, 0), at_work(COMPANY, ANCHOR, VICTIM)
    assert thief.actor is own.actor is VICTIM
    assert thief.device is not own.device
    assert thief.place.code != own.place.code
    assert thief.session != own.session


def test_a_person_at_work_is_where_every_service_sees_them() -> None:
    own = at_work(COMPANY, ANCHOR, VICTIM)
    assert (own.place, own.device, own.session) == COMPANY.whereabouts(VICTIM, ANCHOR)


def test_a_scene_happens_minutes_after_the_start() -> None:
    document = COMPANY.things["document"][0]
    scene = attacker(COMPANY, ANCHOR, VICTIM, 1).scene(
        2.5, "google_workspace/drive", "download", thing=document, changes={"ipAddress": "::1"}
    )
    assert scene.happening.time == ANCHOR + timedelta(seconds=150)
    assert (scene.happening.thing, scene.happening.suspicious) == (document, True)
    assert scene.changes == {"ipAddress": "::1"}
    assert scene.happening.place is not None
    assert scene.happening.place.ip == cast.attackers_places()[1].ip
