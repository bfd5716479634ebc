"""A disk without room: deliveries are put off, nothing half written stays, and all that was taken
is in the lake once there is room again."""

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
from tests.webhooks.test_receiver import answers, hook, receiving

SMALL, LARGE = 15, 400  # events a delivery
LARGEST = 40_000
"""Bytes a file may have where a process is not let write more, which is told like a full disk."""


@contextmanager
def answering(folder, port, largest=None):
    with receiving(folder, port, largest) as process:
        until(lambda: answers(port), "the receiver answers")
        yield process


@contextmanager
def small_disk(folder):
    """Mounted at the folder, and what makes it larger."""
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
    """(ids of what was taken, answers to what was not) of deliveries until some are put off."""
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


def well_put_off(refused):
    """As every vendor tries again after: see the table in docs/webhooks.md."""
    assert len(refused) == 6
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.headers["retry-after"] == "30" for answer in refused)
    assert all(len(answer.content) < 100 for answer in refused)


def nothing_half_written(chosen):
    spool = server.configured_spool(chosen, tables.configured(chosen))
    assert list(spool.root.glob("*/.*.draft")) == []
    assert spool.unreadable("okta") == 0
    for path in spool.waiting("okta"):
        with suppress(FileNotFoundError):  # it has landed meanwhile
            spool.load(path)


def all_landed(chosen, process, taken):
    """Once the spool is empty, and the receiver has ended as asked."""
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


def test_a_full_disk_puts_deliveries_off_and_space_again_is_enough(tmp_path):
    (port,), folder = free_ports(1), tmp_path / "small"
    with small_disk(folder) as enlarge, answering(folder, port) as process:
        chosen = configured(folder, port)
        taken, refused = pushed(port)
        well_put_off(refused)
        nothing_half_written(chosen)
        enlarge()
        more, refused = pushed(port, deliveries=4, first=10**6)
        assert refused == []
        all_landed(chosen, process, taken | more)


def test_a_file_that_may_not_grow_is_not_left_half_written(tmp_path):
    (port,) = free_ports(1)
    chosen = configured(tmp_path, port)
    with answering(tmp_path, port, LARGEST):
        taken, refused = pushed(port)
        well_put_off(refused)
        nothing_half_written(chosen)
    with answering(tmp_path, port) as process:
        all_landed(chosen, process, taken)
