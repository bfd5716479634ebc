"""The answer keys of the incidents name records that the services show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import msgspec
import pytest

from sandbox import server
from sandbox.answer_key import Answers
from sandbox.server import Running, Sandbox
from tests.sandbox.setups import SMALL, Clock

PLAYED = replace(SMALL, incidents=True)


@pytest.fixture(scope="module")
def eventful() -> Iterator[Running]:
    with server.running(PLAYED, Clock()) as running:
        yield running


def test_the_answer_key_is_served_and_names_records_of_the_ledger(eventful: Running) -> None:
    answer = httpx.get(f"{eventful.base_url}/_sandbox/incidents", timeout=60)
    keys = msgspec.json.decode(answer.content, type=list[Answers])
    assert keys == eventful.sandbox.incidents()
    named = [each for key in keys for each in (*key.events, *key.twin)]
    ledgers = {
        stream: {
            (entry.id, entry.time, entry.sha256)
            for entry in eventful.sandbox.ledger(*stream.split("/"))
        }
        for stream in {each.stream for each in named}
    }
    assert len({(each.stream, each.id) for each in named}) == len(named)
    assert all((each.id, each.time, each.sha256) in ledgers[each.stream] for each in named)


def test_the_same_options_play_the_same_incidents(eventful: Running) -> None:
    same = Sandbox(PLAYED, Clock())
    assert same.incidents() == eventful.sandbox.incidents()
    assert same.ledger("okta", "system_log") == eventful.sandbox.ledger("okta", "system_log")
    other = Sandbox(replace(PLAYED, seed=8), Clock())
    assert other.incidents() != same.incidents()


def test_without_incidents_there_is_no_key(box: Running) -> None:
    assert box.sandbox.incidents() == []
    assert httpx.get(f"{box.base_url}/_sandbox/incidents").json() == []


def test_only_incidents_within_the_history_have_answers() -> None:
    short = Sandbox(replace(PLAYED, days=1), Clock())
    assert [key.name for key in short.incidents() if key.events] == [
        "support_upload",
        "unrotated_tokens",
        "consent_phishing",
        "adversary_in_the_middle",
    ]
