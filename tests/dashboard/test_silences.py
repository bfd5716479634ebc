"""Exceptions that are made from a finding."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from dashboard import silences
from dashboard.sight import EVERYTHING, Sight
from pipelines.schemas import EVENTS, EXCEPTIONS
from tests.dashboard import found
from tests.dashboard.test_findings import HIGH, LOW, NOW, event, rows

OKTA = Sight(integrations=frozenset({"okta"}))


def frame(*events: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(events), schema=EVENTS)


def test_the_values_of_a_single_event_are_offered() -> None:
    one, two = event(1) | {"country": None}, event(2)
    offered = silences.offered(found.finding([one], HIGH, entity="ada"), frame(one))
    assert offered["entity"] == "ada"
    assert offered["action"] == one["action"]
    assert "country" not in offered
    several = found.finding([one, two], HIGH, entity="ada")
    assert silences.offered(several, frame(one, two)) == {"entity": "ada"}
    assert silences.offered(found.finding([one], HIGH, entity=None), frame()) == {}


def test_a_limited_visitor_silences_their_own_integration_alone() -> None:
    finding = found.finding([event(1) | {"integration": "okta"}], HIGH)
    assert silences.required(OKTA, finding) == {"integration": "okta"}
    assert silences.required(EVERYTHING, finding) == {}


def test_the_preview_counts_newest_revisions_of_the_rule() -> None:
    events = [event(n) for n in range(4)]
    made = [found.finding([one], HIGH, entity=f"p{n % 2}") for n, one in enumerate(events)]
    gone = made[0] | {"revision": 1, "status": "withdrawn"}
    other = found.finding([events[0]], LOW, entity="p1")
    stored = silences.of_rule(rows([*made, gone, other]), found.rule_id(HIGH), NOW - timedelta(1))
    assert stored.height == 3
    wanted = silences.made(found.rule_id(HIGH), {"entity": "P1"}, NOW + timedelta(days=9))
    none = frame().select("event_uid")
    assert silences.covered(stored, none, wanted) == 2
    past = silences.made(found.rule_id(HIGH), {"entity": "p1"}, NOW - timedelta(days=9))
    assert silences.covered(stored, none, past) == 0


def test_the_preview_reads_the_columns_of_events() -> None:
    events = [event(n) | {"user_agent": "curl" if n else "browser"} for n in range(4)]
    made = [found.finding([one], HIGH) for one in events]
    stored = silences.of_rule(rows(made), found.rule_id(HIGH), NOW - timedelta(days=1))
    dated = frame(*events).with_columns(date=pl.col("time").dt.date()).lazy()
    uids = tuple(one["event_uid"] for one in events)
    read = silences.looked_at(dated, uids, NOW - timedelta(days=1), NOW, ("user_agent",))
    assert read.columns == ["event_uid", "user_agent"]
    wanted = silences.made(found.rule_id(HIGH), {"user_agent": "curl"}, NOW + timedelta(days=9))
    assert silences.columns(wanted) == ("user_agent",)
    assert silences.covered(stored, read, wanted) == 3


def test_active_are_the_newest_that_have_not_expired_or_been_revoked() -> None:
    wanted = [
        silences.made(found.rule_id(HIGH), fields, NOW + timedelta(days=days))
        for fields, days in (
            ({"entity": "a"}, 3),
            ({"entity": "b"}, 2),
            ({"entity": "c", "integration": "okta"}, 1),
            ({"entity": "d", "integration": "vault"}, 4),
            ({"entity": "e"}, -1),
        )
    ]
    made = [
        {**silences.row(one, "ada", " it ", " why "), "time": NOW - timedelta(days=5)}
        for one in wanted
    ]
    revoked = {**silences.revoked(made[1], "eve", NOW), "time": NOW}
    table = pl.DataFrame([*made, revoked], schema=EXCEPTIONS)
    listed = silences.active(table, EVERYTHING, NOW)
    texts = [silences.worded(fields) for fields in listed["fields"].to_list()]
    assert texts == [
        "entity = c and integration = okta",
        "entity = a",
        "entity = d and integration = vault",
    ]
    assert listed["owner"][0] == "it"
    seen = silences.active(table, OKTA, NOW)
    assert [silences.worded(fields) for fields in seen["fields"].to_list()] == texts[:1]
