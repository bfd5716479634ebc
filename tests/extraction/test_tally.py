"""Counts grow with rounds of all processes, and losing them costs only the counts."""

import threading

import pytest

from pipelines.extraction import schedule, tally
from pipelines.extraction.report import Report
from pipelines.extraction.tally import Tally
from pipelines.lake.tables import StreamKey
from sandbox.faults import Fault

LOG = StreamKey("okta", "system_log")


def test_rounds_are_counted_with_their_requests_and_errors(still_world):
    still_world.disorder(Fault(kind="okta", fault="status", status=429, retry_after=0.01, at=[1]))
    (done,) = still_world.poll("okta")
    first = tally.load(still_world.lake, LOG)
    assert (first.rounds, first.errors, first.throttled) == (1, 0, 1)
    assert first.requests == done.requests > 1
    assert first.commits >= 1
    assert 0 < first.commit_seconds < sum(done.seconds.values())
    still_world.disorder(Fault(kind="okta", fault="status", status=401, every=True))
    assert still_world.poll("okta")[0].error
    second = tally.load(still_world.lake, LOG)
    assert (second.rounds, second.errors, second.commits) == (2, 1, first.commits)


def test_no_count_is_lost_between_writers(lake):
    def work():
        for _ in range(50):
            tally.add(lake, LOG, Tally(requests=1, push_seconds=0.5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert tally.load(lake, LOG) == Tally(requests=200, push_seconds=100.0)


@pytest.mark.parametrize("content", ["", "nonsense", '{"rounds": "many"}'])
def test_an_unreadable_file_begins_at_zero(lake, content):
    tally.add(lake, LOG, Tally(rounds=7))
    (path,) = schedule.folder(lake).glob("*.tally")
    path.write_text(content)
    assert tally.load(lake, LOG) == Tally()
    tally.count(lake, LOG, Report(integration="okta", stream="system_log"))
    assert tally.load(lake, LOG).rounds == 1
