"""The contents of JumpCloud's Directory Insights."""

from __future__ import annotations

from datetime import datetime

from sandbox.services import jumpcloud, jumpcloud_events
from tests.sandbox.rendered import Rendered, records, rendered

ALL = rendered("jumpcloud", "directory_insights", 1500)


def of(service: str) -> list[Rendered]:
    return [pair for pair in ALL if pair[1]["service"] == service]


def test_every_service_can_be_queried() -> None:
    served = {record["service"] for _, record in ALL}
    assert served <= set(jumpcloud.SERVICES)
    assert len(served) > 12


def test_a_failed_sign_in_has_a_reason() -> None:
    attempts = [record for _, record in of("directory") if "login_attempt" in record["event_type"]]
    assert {record["success"] for record in attempts} == {True, False}
    for record in attempts:
        assert ("error_message" in record) is not record["success"]
        assert record["success"] or not record["mfa"]


def test_services_differ_in_the_members_they_have() -> None:
    everywhere = set.intersection(*(set(record) for _, record in ALL))
    assert {"id", "event_type", "service", "organization", "timestamp"} <= everywhere
    assert not {"success", "geoip", "initiated_by"} & everywhere


def test_times_have_the_precision_of_their_service() -> None:
    precisions = {record["service"]: len(record["timestamp"]) for _, record in ALL}
    assert len(set(precisions.values())) >= 3
    for happening, record in ALL:
        time = datetime.fromisoformat(record["timestamp"])
        assert abs((time - happening.time).total_seconds()) <= 1


def test_a_user_has_a_login_name_and_an_administrator_has_not() -> None:
    seen = set()
    for _, record in of("directory"):
        who = record.get("initiated_by", {})
        if who.get("type") in ("admin", "user"):
            assert ("username" in who) is (who["type"] == "user")
            seen.add(who["type"])
    assert seen == {"admin", "user"}


def test_all_records_are_of_one_organisation() -> None:
    organisations = {r["organization"] for r in records("jumpcloud", "directory_insights")}
    assert organisations == {jumpcloud_events.ORG_ID}
