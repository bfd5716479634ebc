"""The incidents of the company, before and after a service renders them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from random import Random

from sandbox.company import Company
from sandbox.generation import Played, Span, played_in
from sandbox.incidents import incidents
from sandbox.server import Sandbox, services
from tests.sandbox.rendered import stream_of
from tests.sandbox.setups import ANCHOR, SMALL, Clock

COMPANY = Company(7)
SPAN = Span(anchor=ANCHOR, days=20, per_day=10, per_second=0, incidents=True)


def played(kind: str, name: str, span: Span = SPAN) -> list[Played]:
    return list(played_in(stream_of(kind, name), f"{kind}/{name}", COMPANY, span))


def test_every_kind_of_public_reports_has_a_twin() -> None:
    found = incidents(COMPANY, ANCHOR)
    assert {each.name for each in found if each.twin} == {
        "stuffing",
        "support_upload",
        "unrotated_tokens",
        "consent_phishing",
        "adversary_in_the_middle",
    }
    assert all(each.title and each.about for each in found)
    assert all(each.twin_title for each in found if each.twin)


def test_all_services_record_an_attack_and_several_each_story() -> None:
    kinds: dict[str, set[str]] = {}
    for kind, service in services().items():
        for stream in service.streams:
            for each in played(kind, stream.name):
                kinds.setdefault(each.incident.name, set()).add(kind)
    assert kinds["stuffing"] == {*services()}
    assert all(len(found) > 1 for found in kinds.values())


def test_changed_members_are_merged_into_the_record_of_an_everyday_event() -> None:
    records = [json.loads(each.record.raw) for each in played("okta", "system_log")]
    (grant,) = [
        each
        for each in records
        if each["debugContext"]["debugData"].get("privilegeGranted") == "Super administrator"
    ]
    assert grant["eventType"] == "user.account.privilege.grant"
    assert grant["debugContext"]["debugData"]["risk"] == "{level=HIGH}"
    assert [each["type"] for each in grant["target"]] == ["User", "ROLE"]
    (added,) = [each for each in records if each["eventType"] == "system.idp.lifecycle.create"]
    assert added["outcome"] == {"result": "SUCCESS", "reason": None}


def test_a_scene_is_rendered_by_the_stream_that_records_it() -> None:
    incident = incidents(COMPANY, ANCHOR)[-1]
    stream = stream_of("entra_id", "risk_detections")
    shown = [
        (scene, happening)
        for scene in incident.scenes
        for happening in scene.shown_in(stream, "entra_id/risk_detections")
    ]
    ((scene, happening),) = shown
    record = json.loads(scene.rendered(stream, happening, Random(1)))
    assert (record["riskEventType"], record["riskState"]) == ("attackerinTheMiddle", "atRisk")


def test_incidents_before_the_history_are_not_played() -> None:
    short = replace(SPAN, days=1)
    assert min(each.record.time for each in played("okta", "system_log")) < (
        min(each.record.time for each in played("okta", "system_log", short))
    )


def test_everyday_life_is_the_same_without_incidents() -> None:
    eventful, plain = (
        Sandbox(replace(SMALL, incidents=on), Clock()).ledger("okta", "system_log")
        for on in (True, False)
    )
    found = {entry.sha256 for entry in eventful}
    before = (ANCHOR - timedelta(days=12)).isoformat()
    early = [entry.sha256 for entry in plain if entry.time < before]
    assert early
    assert found.issuperset(early)
