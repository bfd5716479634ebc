"""The query options of Graph's audit log reports."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from sandbox.services.entra_id_query import KEEPS, REPORTS, Query, read
from sandbox.services.entra_id_refusals import Refusal
from tests.sandbox.setups import ANCHOR

AT = datetime(2026, 11, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def parsed(report: str, version: str = "v1.0", **options: str) -> Query:
    query = urlencode({f"${name}": value for name, value in options.items()})
    scope: dict[str, Any] = {
        "type": "http",
        "headers": [],
        "query_string": query.encode(),
        "path_params": {"version": version},
    }
    return read(Request(scope), REPORTS[report], ANCHOR)


def test_without_options_the_newest_page_of_the_retention_is_read() -> None:
    query = parsed("signins")
    assert (query.count, query.descending, query.streams) == (1000, True, ("sign_ins",))
    assert query.since == ANCHOR - KEEPS
    assert query.until > ANCHOR
    assert parsed("provisioning").count == 200


@pytest.mark.parametrize(
    ("clause", "since", "until"),
    [
        ("createdDateTime ge 2026-11-10T12:00:00Z", AT, None),
        ("createdDateTime le 2026-11-10T12:00:00Z", None, AT + TICK),
        ("createdDateTime eq 2026-11-10T12:00:00Z", AT, AT + TICK),
        ("createdDateTime ge 2026-11-10T13:00:00+01:00", AT, None),
        ("(createdDateTime ge 2026-11-10T12:00:00Z)", AT, None),
        ("createdDateTime ge 1999-01-01T00:00:00Z", None, None),
    ],
)
def test_bounds_of_time_are_inclusive_and_within_the_retention(
    clause: str, since: datetime | None, until: datetime | None
) -> None:
    query = parsed("signins", filter=clause)
    assert query.since == (since or ANCHOR - KEEPS)
    assert query.until == (until or ANCHOR + timedelta(days=1))


def test_provisioning_takes_exclusive_bounds() -> None:
    query = parsed(
        "provisioning",
        filter="activityDateTime gt 2026-11-10T12:00:00Z and "
        "activityDateTime lt 2026-11-10T12:00:00Z",
    )
    assert (query.since, query.until) == (AT + TICK, AT)


def test_event_types_select_streams_in_beta_only() -> None:
    clause = "signInEventTypes/any(t: t eq 'nonInteractiveUser' or t eq 'managedIdentity')"
    query = parsed("signins", "beta", filter=clause)
    assert query.streams == ("non_interactive_sign_ins", "managed_identity_sign_ins")
    with pytest.raises(Refusal, match="signInEventTypes"):
        parsed("signins", filter=clause)
    with pytest.raises(Refusal, match="unknown sign-in event type"):
        parsed("signins", "beta", filter="signInEventTypes/any(t: t eq 'robot')")


def test_clauses_are_conjunctive_and_quotes_are_doubled() -> None:
    query = parsed(
        "signins",
        filter="userDisplayName eq 'O''Neil' and startswith(location/city, 'dub') "
        "and status/errorCode eq 0",
    )
    record = {
        "userDisplayName": "O'Neil",
        "location": {"city": "Dublin"},
        "status": {"errorCode": 0},
    }
    assert query.keep(json.dumps(record).encode())
    for change in (
        {"userDisplayName": "O''Neil"},
        {"location": {"city": None}},
        {"location": "Dublin"},
        {"status": {"errorCode": 1}},
    ):
        assert not query.keep(json.dumps(record | change).encode())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": "0"}, "Invalid page size"),
        ({"top": "1001"}, "Invalid page size"),
        ({"top": "-5"}, "Invalid page size"),
        ({"orderby": "appDisplayName"}, "Invalid orderby"),
        ({"orderby": "createdDateTime sideways"}, "Invalid orderby"),
        ({"select": "id"}, "is not allowed"),
        ({"filter": "createdDateTime gt 2026-11-10T12:00:00Z"}, "not supported for the time"),
        ({"filter": "createdDateTime ge 2026-11-10T12:00:00"}, "has no time zone"),
        ({"filter": "createdDateTime ge yesterday"}, "is not a date"),
        ({"filter": "appId ge '1'"}, "is not supported here"),
        ({"filter": "drop table; --"}, "Syntax error"),
        ({"filter": "appId eq 'open"}, "Syntax error"),
    ],
)
def test_an_invalid_option_is_refused_in_graphs_words(
    options: dict[str, str], message: str
) -> None:
    with pytest.raises(Refusal, match=message) as refused:
        parsed("signins", **options)
    assert json.loads(refused.value.response(ANCHOR).body)["error"]["code"] == "BadRequest"
