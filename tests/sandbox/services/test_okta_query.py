"""The query parameters of Okta's System Log."""

from __future__ import annotations

import msgspec

from sandbox.server import Running
from tests.sandbox.okta_reader import (
    SINCE,
    everything,
    okta_client,
)


def test_filter_and_keywords_select_records(box: Running) -> None:
    with okta_client(box) as client:
        query = 'eventType eq "user.session.start" and outcome.result eq "FAILURE"'
        records = everything(client, since=SINCE, filter=query, limit=50)
        words = everything(client, since=SINCE, q="panama INVALID_CREDENTIALS", limit=1000)
    found = [msgspec.json.decode(record) for record in records]
    assert len(found) > 180
    assert {(r["eventType"], r["outcome"]["result"]) for r in found} == {
        ("user.session.start", "FAILURE")
    }
    assert len(words) == 180
