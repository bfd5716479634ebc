"""The contents of Google Workspace's activities."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.sandbox.rendered import records, rendered, stream_of


def parameters(event: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in event.get("parameters", ())}


def test_parameters_have_seven_types_and_numbers_are_strings() -> None:
    kinds: Counter[str] = Counter()
    for application in ("drive", "token", "meet", "gmail", "rules"):
        for record in records("google_workspace", application):
            for event in record["events"]:
                for one in event.get("parameters", ()):
                    (kind,) = one.keys() - {"name"}
                    kinds[kind] += 1
                    if kind == "intValue":
                        assert str(int(one[kind])) == one[kind]
    assert len(kinds) == 7


def test_an_activity_has_one_primary_event_and_its_side_effects() -> None:
    several = [r for r in records("google_workspace", "drive") if len(r["events"]) > 1]
    assert several
    for record in several:
        primary = [parameters(event)["primary_event"]["boolValue"] for event in record["events"]]
        assert primary == [True] + [False] * (len(primary) - 1)
        assert len({event["name"] for event in record["events"]}) == len(primary)


def test_a_failed_sign_in_is_a_login_failure() -> None:
    for happening, record in rendered("google_workspace", "login"):
        if happening.what == "login_success":
            expected = "login_success" if happening.ok else "login_failure"
            assert record["events"][0]["name"] == expected


@pytest.mark.parametrize(("application", "length"), [("calendar", 20), ("drive", 24)])
def test_some_applications_have_times_in_whole_seconds(application: str, length: int) -> None:
    times = {len(record["id"]["time"]) for record in records("google_workspace", application)}
    assert times == {length}


def test_meet_has_no_address_outside_its_parameters() -> None:
    found = records("google_workspace", "meet")
    assert found
    assert not any({"ipAddress", "networkInfo"} & record.keys() for record in found)


def test_an_account_has_the_same_profile_in_every_application() -> None:
    profiles: dict[str, set[str]] = {}
    for application in ("drive", "login", "token"):
        for record in records("google_workspace", application):
            if email := record["actor"].get("email"):
                profiles.setdefault(email, set()).add(record["actor"]["profileId"])
    assert len(profiles) > 20
    assert {len(found) for found in profiles.values()} == {1}
    assert len(set.union(*profiles.values())) == len(profiles)


def test_a_few_activities_are_hours_late() -> None:
    rng, delay = Random(1), stream_of("google_workspace", "token").delay
    delays = [delay(rng) for _ in range(5000)]
    late = [seconds for seconds in delays if seconds > 3600]
    assert 10 < len(late) < 100
    assert max(late) < 12 * 3600
    assert min(delays) > 0


def test_a_message_has_a_recipient_and_a_refused_one_the_error_of_the_relay() -> None:
    for happening, record in rendered("google_workspace", "gmail"):
        ((info, message),) = [event["parameters"] for event in record["events"]]
        assert info["name"] == "event_info"
        inner = {one["name"]: one for one in message["messageValue"]["parameter"]}
        ((recipient,),) = [one["parameter"] for one in inner["destination"]["multiMessageValue"]]
        assert recipient["value"] == happening.actor.email
        assert ("smtp_relay_error" in inner) is not happening.ok


def test_flows_are_agentic_and_name_their_owner() -> None:
    for happening, record in rendered("google_workspace", "workspace_studio"):
        assert record["isAgenticAction"] is True
        owner = record["actor"]["agentAttributionInfo"]["agentOwner"]["email"]
        assert owner == happening.actor.email
    assert not any(r["isAgenticAction"] for r in records("google_workspace", "drive"))
