"""A full disk: deliveries are deferred, no partial file stays, and everything that was accepted is
in the lake once there is space again."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress

import httpx
import pytest

from pipelines.lake import tables
from pipelines.webhooks import server
from tests.cli.test_up import free_ports, until
from tests.conftest import raw_table
from tests.webhooks.conftest import SECRET
from tests.webhooks.receiving import configured
from tests.webhooks.test_receiver import hook, is_up, receiving

SMALL, LARGE = 15, 400  # events per delivery
LARGEST = 40_000
"""Size limit of a file in bytes; exceeding it is an error like a full disk."""


@contextmanager
def answering(folder, port, largest=None):
    with receiving(folder, port, largest) as process:
        until(lambda: is_up(port), "the receiver is up")
        yield process


@contextmanager
def small_disk(folder):
    """Mount a small file system at `folder`; yield a function that enlarges it."""
    folder.mkdir()
    mount, umount = (shutil.which(name) or "false" for name in ("mount", "umount"))
    mounting = [mount, "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield lambda: subprocess.run([mount, "-o", "remount,size=200m", str(folder)], check=True)
    finally:
        subprocess.run([umount, str(folder)], check=True)


def pushed(port, deliveries=400, first=0):
    """Send deliveries until six are refused; return the accepted IDs and the refusals."""
    headers = {"Authorization": SECRET, "Content-Type": "application/json"}
    taken, refused = set(), []
    with httpx.Client(headers=headers, timeout=30) as client:
        for turn in range(deliveries):
            numbers = range(first, first + (LARGE if turn % 4 == 3 else SMALL))
            first = numbers.stop
            answer = client.post(f"http://127.0.0.1:{port}/okta", content=hook(*numbers))
            if answer.status_code == 200:
                taken |= {f"id-{number}" for number in numbers}
            else:
                refused.append(answer)
            if len(refused) == 6:
                break
    return taken, refused


def assert_deferred(refused):
    """Check for 503, after which every vendor retries: see the table in docs/webhooks.md."""
    assert len(refused) == 6
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.headers["retry-after"] == "30" for answer in refused)
    assert all(len(answer.content) < 100 for answer in refused)


def assert_no_partial_file(chosen):
    spool = server.configured_spool(chosen, tables.configured(chosen))
    assert list(spool.root.glob("*/.*.draft")) == []
    assert spool.unreadable("okta") == 0
    for path in spool.waiting("okta"):
        with suppress(FileNotFoundError):  # stored and removed meanwhile
            spool.load(path)


def assert_all_stored(chosen, process, taken):
    """Check the lake once the spool is empty and the receiver has ended cleanly."""
    lake = tables.configured(chosen)
    spool = server.configured_spool(chosen, lake)
    until(lambda: not spool.waiting("okta"), "the spool is empty")
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == 0
    rows = raw_table(lake, "okta", "system_log")
    assert taken
    assert set(rows["event_id"]) == taken
    assert rows["event_id"].is_unique().all()
    events = tables.scan(lake, "events").collect()["seq"]
    assert sorted(events) == rows["seq"].to_list() == list(range(rows.height))


def test_a_full_disk_defers_deliveries_until_there_is_space(tmp_path):
    (port,), folder = free_ports(1), tmp_path / "small"
    with small_disk(folder) as enlarge, answering(folder, port) as process:
        chosen = configured(folder, port)
        taken, refused = pushed(port)
        assert_deferred(refused)
        assert_no_partial_file(chosen)
        enlarge()
        more, refused = pushed(port, deliveries=4, first=10**6)
        assert refused == []
        assert_all_stored(chosen, process, taken | more)


def test_a_file_size_limit_leaves_no_partial_file(tmp_path):
    (port,) = free_ports(1)
    chosen = configured(tmp_path, port)
    with answering(tmp_path, port, LARGEST):
        taken, refused = pushed(port)
        assert_deferred(refused)
        assert_no_partial_file(chosen)
    with answering(tmp_path, port) as process:
        assert_all_stored(chosen, process, taken)
