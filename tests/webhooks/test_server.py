"""The running receiver: deadlines, kills under load and a full disk lose nothing acknowledged."""

import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from ipaddress import ip_network

import httpx
import polars as pl
import pytest

from pipelines.cli import config_file
from pipelines.lake import tables
from pipelines.webhooks.receiver import Limits
from pipelines.webhooks.spool import configured_spool
from tests.cli.command import run
from tests.conftest import raw_table
from tests.places import everywhere
from tests.waiting import free_ports, until
from tests.webhooks.conftest import SECRET, served
from tests.webhooks.pushing import hook
from tests.webhooks.receiving import configured, receive
from tests.webhooks.requests import GOOD, HOOK, drip, head, post

KILLS = int(os.environ.get("AUDITLAKE_KILLS", "2"))


class Sender(threading.Thread):
    """Pushes as fast as the receiver accepts; remembers the acknowledged events."""

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.url, self.random = f"http://127.0.0.1:{port}/okta", random.Random(seed)
        self.acknowledged, self.next, self.ended = set(), seed * 10**6, threading.Event()

    def run(self):
        headers = {"Authorization": SECRET, "Content-Type": "application/json"}
        with httpx.Client(headers=headers, timeout=5) as client:
            while not self.ended.is_set():
                count = self.random.randint(1, 5)
                numbers = range(self.next, self.next + count)
                self.next += count
                with suppress(httpx.TransportError):
                    if client.post(self.url, content=hook(*numbers)).status_code == 200:
                        self.acknowledged |= {f"id-{number}" for number in numbers}
                        continue
                time.sleep(0.05)


@contextmanager
def receiving(folder, port, largest=None, **sections):
    """Run a receiver, forked from a process that has loaded all imports, to start quickly."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.webhooks.receiving"])
    process = context.Process(target=receive, args=(folder, port, largest), kwargs=sections)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def is_up(port):
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/-/health").status_code == 200
    return False


@everywhere(sampled=False)
def test_a_receiver_killed_at_random_under_load_loses_nothing_it_acknowledged(tmp_path, place):
    section = {"root": place.lake().root, "storage_options": place.options or {}}
    (port,) = free_ports(1)
    senders = [Sender(port, seed) for seed in (1, 2)]
    luck = random.Random(7)
    for sender in senders:
        sender.start()
    for _ in range(KILLS):
        with receiving(tmp_path, port, lake=section) as process:
            until(lambda: is_up(port), "the receiver is up")
            time.sleep(luck.uniform(0.0, 1.5))  # the moment of the kill is random on purpose
            os.kill(process.pid, signal.SIGKILL)
    chosen = configured(tmp_path, port, lake=section)
    lake = tables.configured(chosen)
    waiting = configured_spool(chosen, lake).root / "okta"
    with receiving(tmp_path, port, lake=section) as process:
        until(lambda: all(sender.acknowledged for sender in senders), "something is acknowledged")
        for sender in senders:
            sender.ended.set()
            sender.join()
        until(lambda: not list(waiting.glob("*.push")), "the spool is empty")
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == 0
    acknowledged = senders[0].acknowledged | senders[1].acknowledged
    rows = raw_table(lake, "okta", "system_log")
    assert acknowledged
    assert acknowledged <= set(rows["event_id"])
    assert rows["event_id"].is_unique().all()
    assert rows["seq"].to_list() == list(range(rows.height))
    events = tables.scan(lake, "events").select(pl.col("seq")).collect()["seq"]
    assert sorted(events) == rows["seq"].to_list()
    print(f"{KILLS} kills, {len(acknowledged):,} events acknowledged, {rows.height:,} in the lake")


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
    spool = configured_spool(chosen, tables.configured(chosen))
    assert list(spool.root.glob("*/.*.draft")) == []
    assert spool.unreadable("okta") == 0
    for path in spool.waiting("okta"):
        with suppress(FileNotFoundError):  # stored and removed meanwhile
            spool.load(path)


def assert_all_stored(chosen, process, taken):
    """Check the lake once the spool is empty and the receiver has ended cleanly."""
    lake = tables.configured(chosen)
    spool = configured_spool(chosen, lake)
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


@pytest.mark.parametrize(
    ("names", "host", "error"),
    [
        ([], "0.0.0.0", "jumpcloud has no webhook_secret"),
        (["jumpcloud"], "127.0.0.1", "no integration has a webhook_secret"),
    ],
)
def test_it_refuses_to_listen_without_a_secret(tmp_path, names, host, error):
    document = {"okta": {"base_url": "https://acme.okta.com", "api_token": "x" * 20,
                         "webhook_secret": SECRET}, "jumpcloud": {"api_key": "x" * 20}}  # fmt: skip
    (tmp_path / "auditlake.toml").write_text(config_file.document(document))
    done = run(tmp_path, "receive", *names, "--host", host, "--port", "0")
    assert (done.exit_code, error in done.output) == (2, True)


@pytest.mark.parametrize("start", [b"", b"POST /okta HT", b"POST /okta HTTP/1.1\r\nX-Slow: "])
def test_a_head_that_arrives_slowly_is_cut_off(tmp_path, start):
    with served(tmp_path / "spool", Limits(head_seconds=0.5), "okta") as impatient:
        took, _ = drip(impatient, start, 60)
        assert took < 60
        assert impatient.files() == []


@pytest.mark.parametrize("method", ["HEAD", "GET", "POST"])
def test_a_malformed_request_is_answered_once_and_logs_no_traceback(receiver, caplog, method):
    chunked = f"{method} /okta HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = receiver.raw(chunked.encode() + b"no size\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert [record for record in caplog.records if record.exc_info] == []


def test_connections_above_the_limit_are_closed_and_others_continue(tmp_path):
    with served(tmp_path / "spool", Limits(connections=4, head_seconds=60), "okta") as few:
        address = ("127.0.0.1", few.port)
        peers = [socket.create_connection(address, timeout=30) for _ in range(4)]
        for peer in peers:
            peer.sendall(head() + HOOK)  # each is being served once it is answered
            assert peer.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert few.raw(head() + HOOK) == b""
        peers.pop().close()
        with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
            until(lambda: taken(client, few), "there is room for another")
        for peer in peers:
            peer.close()


@contextmanager
def slow_heads(receiver, *hosts):
    """Keep a connection from each of the addresses open that never completes its head."""
    peers = []
    for host in hosts:
        peer = socket.socket()
        peer.bind((host, 0))
        peer.settimeout(30)
        peer.connect(("127.0.0.1", receiver.port))
        peer.sendall(b"POST /okta HTTP/1.1\r\nX-Slow: ")
        peers.append(peer)
    try:
        yield peers
    finally:
        for peer in peers:
            peer.close()


def cut_off(peer):
    peer.settimeout(0.05)
    with suppress(TimeoutError, ConnectionError):
        return peer.recv(1) == b""
    return False


@pytest.mark.parametrize(
    "limits",
    [
        Limits(connections=8, head_seconds=600),
        Limits(connections=100, heads_per_address=8, head_seconds=600),
    ],
)
def test_slow_heads_without_a_secret_do_not_block_deliveries(tmp_path, limits):
    with (
        served(tmp_path / "spool", limits, "okta") as busy,
        slow_heads(busy, *["127.0.0.1"] * 30),
    ):
        for _ in range(12):
            assert post(busy).status_code == 200


def test_the_sender_with_the_most_slow_heads_gives_way(tmp_path):
    limits = Limits(connections=6, head_seconds=600)
    hosts = ["127.0.0.3", *["127.0.0.2"] * 5]
    with served(tmp_path / "spool", limits, "okta") as busy, slow_heads(busy, *hosts) as peers:
        until(lambda: len(busy.server.server_state.connections) == 6, "all are connected")
        assert [post(busy).status_code for _ in range(3)] == [200] * 3
        until(lambda: any(map(cut_off, peers[1:])), "one of the crowd is closed")
        assert not cut_off(peers[0])


@pytest.mark.parametrize(("proxies", "second"), [((), 429), ((ip_network("127.0.0.1"),), 401)])
def test_only_a_trusted_proxy_names_the_sender_of_wrong_secrets(tmp_path, proxies, second):
    limits = Limits(wrong_per_second=0.001, proxies=proxies)
    with served(tmp_path / "spool", limits, "okta") as receiver:
        wrong = {"Authorization": "wrong", "X-Forwarded-For": "198.51.100.9, 203.0.113.1"}
        found = [post(receiver, **wrong).status_code for _ in range(2)]
        assert (found[0], found[-1]) == (401, 429)
        # The entry on the left is the sender's own claim.
        wrong["X-Forwarded-For"] = "203.0.113.1, 203.0.113.2"
        assert post(receiver, **wrong).status_code == second


def taken(client, receiver):
    with suppress(httpx.TransportError):
        return client.post(f"{receiver.url}/okta", content=HOOK, headers=GOOD).status_code == 200
    return False
