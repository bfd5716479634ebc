"""The contents of Okta's events."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec

from sandbox.server import Running
from tests.sandbox.rendered import rendered


def test_the_history_is_rich_quiet_at_weekends_and_in_oktas_shape(box: Running) -> None:
    records = [record.raw for record in box.sandbox.log("okta", "system_log").visible()]
    events = [msgspec.json.decode(record) for record in records]
    assert len({event["eventType"] for event in events}) >= 40
    usual = [event["published"] for event in events if "POSITIVE" not in str(event)]
    days = Counter(datetime.fromisoformat(time).weekday() for time in usual)
    assert max(days[5], days[6]) < min(days[day] for day in range(5)) / 2
    jobs = [event for event in events if event["transaction"]["type"] == "JOB"]
    assert jobs
    assert not any(value for event in jobs for value in event["client"].values())
    assert {event["version"] for event in events} == {"0"}
    assert all(len(event) == 17 for event in events)


def test_the_takeover_can_be_followed_from_stuffing_to_export(box: Running) -> None:
    records = [record.raw for record in box.sandbox.log("okta", "system_log").visible()]
    events = [msgspec.json.decode(raw) for raw in records if b'"Panama"' in raw]
    abroad = [e for e in events if e["client"]["ipAddress"].startswith("203.0.113.")]
    opened = [e for e in abroad if e["outcome"]["result"] == "SUCCESS"]
    assert len({e["actor"]["alternateId"] for e in abroad}) > 40
    victims = {e["actor"]["alternateId"] for e in opened}
    assert len(victims) == 1
    types = [e["eventType"] for e in sorted(opened, key=lambda e: e["published"])]
    assert types[:4] == [
        "user.session.start",
        "user.mfa.factor.reset_all",
        "user.mfa.factor.activate",
        "user.authentication.sso",
    ]
    assert types[-2:] == ["analytics.reports.export.download", "system.api_token.create"]


def test_strangers_and_attackers_come_through_a_vpn_and_employees_do_not() -> None:
    hidden = set()
    for happening, record in rendered("okta", "system_log", 600):
        if happening.place:
            (hop,) = record["request"]["ipChain"]
            assert hop["ipDetails"] == record["securityContext"]["ipDetails"]
            hidden.add((happening.place.isp, bool(hop["ipDetails"])))
    assert {isp for isp, behind in hidden if behind} == {"Example Hosting", "Example Móvil"}
    assert {isp for isp, behind in hidden if not behind} >= {"Larkfield", "Example Fibre"}


def test_a_granted_token_has_its_scopes() -> None:
    granted = [
        record["debugContext"]["debugData"]["grantedScopes"]
        for happening, record in rendered("okta", "system_log", 600)
        if happening.what == "app.oauth2.as.token.grant.access_token"
    ]
    assert set(granted) == {"openid, okta.users.read"}
