"""Rate limits are shared by all processes of a machine, and so is the time of the next poll."""

import os
import stat
import tempfile
import time
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context

import pytest

from pipelines.extraction import client, rate_limit, schedule
from pipelines.extraction.rate_limit import Budget, RateLimiter
from pipelines.extraction.schedule import NextPoll
from pipelines.lake.tables import StreamKey
from pipelines.sdk.contract import RequestPolicy
from tests.integrity import matrix
from tests.webhooks.conftest import source

LOG = StreamKey("okta", "system_log")


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def pace(path, clock, rate=(4, 10.0)):
    return RateLimiter(RequestPolicy(rate=rate), clock, clock.sleep, path)


def test_requests_of_one_client_count_for_another(tmp_path):
    clock, started = Clock(), Clock().now
    both = [pace(tmp_path / "turns", clock) for _ in range(2)]
    for number in range(9):
        both[number % 2].wait()
    assert clock.now - started >= 20


def test_throttling_of_one_client_holds_for_another(tmp_path):
    clock, started = Clock(), Clock().now
    one, other = (pace(tmp_path / "turns", clock, rate=None) for _ in range(2))
    other.wait()
    one.hold(30)
    other.wait()
    assert clock.now - started >= 30


@pytest.mark.parametrize("text", ["", "nonsense", "[1e99]", "{}", "[5, null]"])
def test_an_invalid_state_file_keeps_nobody_waiting(tmp_path, text):
    (tmp_path / "turns").write_text(text)
    clock = Clock()
    pace(tmp_path / "turns", clock).wait()
    assert clock.now == Clock().now


def send(path, count):
    mine = RateLimiter(RequestPolicy(rate=(20, 0.5)), path=path)
    for _ in range(count):
        mine.wait()


def test_processes_share_a_rate_limit(tmp_path):
    context, path, started = get_context("spawn"), tmp_path / "turns", time.time()
    senders = [context.Process(target=send, args=(path, 30)) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    with rate_limit.locked(path, time.time()) as known:
        assert len(known.sent) <= 20
    assert [sender.exitcode for sender in senders] == [0, 0]
    assert time.time() - started >= 1.0  # sixty, twenty at a time


def test_a_state_file_is_named_by_the_credential_and_contains_no_secret(still_world):
    source, other = still_world.source("okta"), still_world.source("okta", base_url="http://[::1]")
    path = rate_limit.state_file("okta", source.settings)
    assert path == rate_limit.state_file("okta", still_world.source("okta", api_token="x").settings)
    assert path != rate_limit.state_file("okta", other.settings)
    client.connect(source)._retries._rate_limiter.hold(0.01)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_without_a_folder_for_state_each_process_limits_itself(
    still_world, lake, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "file" / "auditlake.toml"))
    source = still_world.source("okta")
    assert rate_limit.state_file("okta", source.settings) is None
    schedule.save(lake, LOG, NextPoll(next=datetime(2026, 3, 1, tzinfo=UTC), interval=1.0, why="x"))
    assert all(schedule.claim_turn(lake, LOG, timedelta(hours=1)) for _ in range(2))
    assert (schedule.load(lake, LOG), schedule.last_polled(lake, LOG)) == (None, None)
    (report,) = still_world.poll("okta")
    assert report.error is None


@pytest.mark.parametrize("shared", [True, False])
def test_a_change_is_claimed_once_in_its_time_whoever_asks(tmp_path, shared):
    clock, path = Clock(), tmp_path / "turns" if shared else None
    first = pace(path, clock)
    assert first.claim("start a", 900) == 0
    assert first.claim("start b", 900) == 0
    again = pace(path, clock) if shared else first  # as after a restart
    clock.now += 600
    assert again.claim("start a", 900) == pytest.approx(300)
    clock.now += 300
    assert again.claim("start a", 900) == 0


def test_a_claim_in_the_future_or_an_unreadable_one_is_void(tmp_path):
    clock = Clock()
    clock.now += 10_000
    pace(tmp_path / "turns", clock).claim("start a", 900)
    clock.now -= 10_000
    assert pace(tmp_path / "turns", clock).claim("start a", 900) == 0
    for text in ("", "[1]", '{"start a": []}', '{"start a": "x"}', "\x00"):
        (tmp_path / "turns.changes").write_text(text)
        assert pace(tmp_path / "turns", clock).claim("start a", 900) == 0


@matrix.attack(
    "plant links to files of the operator in the state folder",
    "the files are unchanged",
    matrix.LINKS,
)
def test_links_planted_in_a_temporary_folder_or_the_state_change_no_file(
    still_world, tmp_path, monkeypatch
):
    """Another user used to create /tmp/auditlake-UID first, with links to files of the operator."""
    victim, temporary = tmp_path / "victim", tmp_path / "tmp"
    victim.write_text("precious")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source, limit = still_world.source("okta"), RequestPolicy(rate=(4, 10.0))
    name = rate_limit.state_file("okta", source.settings).name
    shared = tmp_path / "state" / "auditlake"
    for folder in (temporary / f"auditlake-{os.getuid()}" / "turns", shared / "rate_limits"):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("", ".changes"):
            (folder / f"{name}{suffix}").symlink_to(victim)
    limiter = RateLimiter(limit, path=rate_limit.state_file("okta", source.settings))
    limiter.wait()
    limiter.hold(1.0)
    assert limiter.claim("start", 900) == 0
    assert victim.read_text() == "precious"
    assert limiter.claim("start", 900) == pytest.approx(900, abs=60)


def test_a_limiter_whose_file_is_a_link_still_limits_its_own_requests(tmp_path):
    clock = Clock()
    (tmp_path / "victim").touch()
    (tmp_path / "turns").symlink_to(tmp_path / "victim")
    limiter = pace(tmp_path / "turns", clock)
    before = clock.now
    for _ in range(9):
        limiter.wait()
    assert clock.now - before >= 20.0
    assert (tmp_path / "victim").read_bytes() == b""


def test_the_budget_is_what_all_processes_of_the_machine_left(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    simulated = source("google_workspace", base_url="http://127.0.0.1:1")
    assert rate_limit.budget(simulated, 0.0) is None
    google = source("google_workspace")
    policy, clock = rate_limit.policy(google), Clock()
    limit, seconds = policy.rate
    shared = rate_limit.state_file(google.kind, google.settings)
    RateLimiter(policy, clock, clock.sleep, shared).wait()
    assert rate_limit.budget(google, clock.now) == Budget(limit=limit, left=limit - 1)
    assert rate_limit.budget(google, clock.now + seconds).left == limit
