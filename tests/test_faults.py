"""Kills, two of everything at once, odd records: nothing lost, nothing twice."""

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest

from pipelines import extract, http
from pipelines import lake as lakes
from pipelines.http import Patience
from pipelines.lake import Lake, Log
from pipelines.sandbox.faults import Fault
from pipelines.sandbox.server import Options, running
from tests.conftest import World, raw_table

POLL = """
import sys
from pipelines import extract, registry
from pipelines.lake import Lake
extract._BATCH_RECORDS = int(sys.argv[3])
sources = [registry.source("okta", {"base_url": sys.argv[2], "api_token": sys.argv[4]})]
print("ready", flush=True)
reports = extract.poll(Lake(sys.argv[1]), sources)
sys.exit(any(report.error for report in reports))
"""


def poller(world, batch=400):
    settings = world.running.settings()["okta"]
    arguments = (world.lake.root, settings["base_url"], str(batch), settings["api_token"])
    process = subprocess.Popen(
        [sys.executable, "-c", POLL, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def check(world):
    stored, events = world.stored("okta", "system_log"), world.events("okta", "system_log")
    assert sorted(stored["raw_sha256"]) == sorted(world.issued("okta", "system_log"))
    assert stored["seq"].to_list() == list(range(stored.height))
    assert events["seq"].to_list() == list(range(stored.height))


@pytest.fixture(scope="module")
def busy():
    """A sandbox with some eight thousand records that stands still."""
    with running(Options(days=20, per_day=400, rate=0)) as server:
        yield server


def test_fifty_kills_at_random_moments(busy, tmp_path):
    chance, kills, number = random.Random(7), 0, 0
    while kills < 50:
        world = World(running=busy, lake=Lake(str(tmp_path / f"lake{number}")))
        finished = False
        while not finished and kills < 50:
            process = poller(world)
            try:
                process.wait(timeout=chance.uniform(0.0, 0.5))
                finished = True
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            process.stdout.close()
        world.poll("okta")
        check(world)
        number += 1


def test_four_processes_at_once(busy, lake):
    world = World(running=busy, lake=lake)
    racers = [poller(world, batch=700) for _ in range(4)]
    assert [racer.wait() for racer in racers] == [0] * 4
    for racer in racers:
        racer.stdout.close()
    check(world)


def test_a_503_on_every_page_in_turn(still_world):
    still_world.poll("okta")
    total, hasty = still_world.running.sandbox.requests("okta")[0], Patience(attempts=1)
    for index in range(total):
        lake = Lake(f"{still_world.lake.root}-{index}")
        world = World(running=still_world.running, lake=lake)
        world.disorder(Fault(kind="okta", fault="status", status=503, at=[index], count=1))
        report, *_ = world.poll("okta", connect=partial(http.client, patience=hasty))
        assert "503" in report.error
        world.poll("okta")
        check(world)


def test_ten_idle_rounds_write_nothing_and_ask_little(still_world):
    still_world.poll("okta")
    before = lakes.position(still_world.lake, Log("okta", "system_log")).version
    for _ in range(10):
        (report,) = still_world.poll("okta")
        assert (report.rows, report.error) == (0, None)
        assert report.requests <= 2
    assert lakes.position(still_world.lake, Log("okta", "system_log")).version == before


def test_odd_records_land_or_are_set_aside_and_are_counted(still_world):
    good = record("good-1")
    odd = {
        "no id": b'{"published":"%s"}' % now(),
        "no time": b'{"uuid":"no-time"}',
        "far time": b'{"uuid":"far","published":"9999-01-01T00:00:00.000Z"}',
        "empty": b"{}",
        "not an object": b"17",
    }
    strange = [
        b'{"uuid":"surrogate","published":"%s","eventType":"\\ud800"}' % now(),
        b'{"uuid":"wrong-types","published":"%s","actor":[1],"target":{"a":1},"client":"x"}'
        % now(),
        b'{"uuid":"twice","uuid":"twice-2","published":"%s"}' % now(),
        b'{"uuid":"nul","published":"%s","eventType":"a\\u0000b"}' % now(),
        b'{"uuid":"large","published":"%s","displayMessage":"%s"}' % (now(), b"x" * 1_000_000),
        b'{"uuid":"number","published":"%s","severity":1e999}' % now(),
    ]
    sandbox = still_world.running.sandbox
    sandbox.append("okta", "system_log", [good, *odd.values(), *strange, record("good-2")])
    for _ in range(2):
        still_world.poll("okta")
    stored = still_world.stored("okta", "system_log")
    raws = set(stored["raw"])
    assert {good.decode(), record("good-2").decode(), *(s.decode() for s in strange)} <= raws
    rejected = lakes.scan(still_world.lake, "rejected").collect()
    assert sorted(rejected["raw"]) == sorted(odd.values())
    assert rejected["reason"].is_not_null().all()
    events = still_world.events("okta", "system_log")
    assert set(events["seq"]) == set(stored["seq"])


def record(uuid):
    return b'{"uuid":"%s","published":"%s","eventType":"user.session.start"}' % (
        uuid.encode(),
        b"2026-11-22T08:00:00.000Z",
    )


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()


def test_a_lost_position_costs_requests_and_no_rows(still_world):
    still_world.poll("okta")
    log = f"{still_world.lake.root}/raw/okta/system_log/_delta_log"
    handle = lakes.open_table(still_world.lake, "raw/okta/system_log")
    handle.create_checkpoint()
    for version in range(handle.version() + 1):
        path = lakes.Path(log) / f"{version:020}.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line.get("commitInfo", {}).pop("auditlake.cursor", None)
        path.write_text("\n".join(map(json.dumps, lines)))
    assert lakes.position(still_world.lake, Log("okta", "system_log")).cursor is None
    (report,) = still_world.poll("okta")
    assert (report.error, report.rows) == (None, 0)
    check(still_world)


def test_events_are_caught_up_after_a_kill_between_raw_and_events(still_world, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(extract, "_derive", lambda *_: None)
        patched.setattr(extract, "catch_up", lambda *_: None)
        still_world.poll("okta")
    assert lakes.scan(still_world.lake, "events") is None
    still_world.poll("okta")
    check(still_world)


def test_simulated_and_real_events_do_not_meet(still_world):
    still_world.poll("okta")
    real = extract.Round(
        lake=still_world.lake,
        source=still_world.source("okta", base_url="https://acme.okta.com"),
        stream=still_world.source("okta").streams()[0],
        client=http.client(still_world.source("okta")),
    )
    assert "another origin" in extract.extract(real).error
    assert raw_table(still_world.lake, "okta", "system_log").height


def test_an_answer_of_another_shape_fails_its_stream_and_says_so(still_world):
    def connect(source):
        answer = httpx.Response(200, json={"a": 1})
        return http.client(source, transport=httpx.MockTransport(lambda _: answer))

    (report,) = still_world.poll("okta", connect=connect)
    assert "unexpected shape" in report.error
    assert still_world.stored("okta", "system_log").is_empty()
