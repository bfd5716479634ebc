"""Kills, concurrent writers, full disks and odd records lose and duplicate nothing."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from pipelines import registry
from pipelines.extraction import client, rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.lake import raw as raw_rows
from pipelines.lake import tables
from pipelines.lake.tables import Lake, StreamKey
from sandbox.faults import Fault
from sandbox.server import running
from tests.conftest import World
from tests.places import everywhere, on_stores
from tests.promises import kills
from tests.promises.ledgers import check, difference
from tests.tiers import FULL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def busy():
    """A sandbox with some pages of records and no new ones."""
    with running(kills.history()) as server:
        yield server


def test_kills_at_random_and_at_every_named_point_lose_and_duplicate_nothing():
    """`make soak` does the same a thousand times."""
    main = f"kills.main({100 if FULL else 40})"
    killing = [sys.executable, "-c", f"from tests.promises import kills; {main}"]
    done = subprocess.run(killing, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, "0 lost, 0 twice, bytes equal" in done.stdout) == (0, True), done


@pytest.mark.skipif(not FULL, reason="`make test-full` runs it")
@on_stores()
def test_kills_lose_and_duplicate_nothing_in_an_object_store(busy, tmp_path, place):
    found = list(kills.many(busy, tmp_path, dict.fromkeys(kills.POINTS, 2), 16, place))
    assert found
    assert not any(found), found


@everywhere(sampled=False)
@pytest.mark.parametrize("pollers", [2, 4])
def test_racing_pollers_lose_nothing_during_constant_maintenance(busy, place, pollers):
    arguments = f"{pollers}, {busy.base_url!r}, Place({place.root!r}, {place.options!r})"
    imports = "from tests.places import Place; from tests.promises import kills"
    racing = [sys.executable, "-c", f"{imports}; kills.race({arguments})"]
    done = subprocess.run(racing, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    world = World(running=busy, lake=place.lake("race"))
    assert difference(world, "okta", "system_log") == ""


@pytest.fixture(params=["a full disk", "a file too large"])
def small_disk(request, tmp_path):
    """A folder with little space, Python code that limits it, a command that enlarges it."""
    folder = tmp_path / "small"
    folder.mkdir()
    if request.param == "a file too large":
        yield folder, "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, -1))", []
        return
    mount, umount = (shutil.which(name) or "false" for name in ("mount", "umount"))
    mounting = [mount, "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder, "", [mount, "-o", "remount,size=100m", str(folder)]
    finally:
        subprocess.run([umount, str(folder)], check=True)


FILLED_UP = """
import sys
from pipelines import registry
from pipelines.extraction import batches, rounds
from pipelines.lake.tables import Lake
batches._BATCH_RECORDS = 100
{limit}
keys = {{"base_url": sys.argv[2], "api_token": sys.argv[3]}}
(report,) = rounds.poll(Lake(sys.argv[1]), [registry.source("okta", keys)])
print(report.error)
"""


def test_a_full_disk_is_reported_and_freeing_space_is_enough(busy, small_disk):
    folder, limit, more_space = small_disk
    world = World(running=busy, lake=Lake(str(folder / "lake")))
    keys = busy.settings()["okta"]
    script = FILLED_UP.format(limit=limit)
    program = [sys.executable, "-c", script, world.lake.root, keys["base_url"]]
    for _ in range(2):
        done = subprocess.run(
            [*program, keys["api_token"]], check=True, capture_output=True, text=True
        )
        assert "free some space; nothing acknowledged is lost" in done.stdout
        assert done.stdout.count("\n") == 1
    if more_space:
        subprocess.run(more_space, check=True)
    (report,) = world.poll("okta")
    assert (report.error, difference(world, "okta", "system_log")) == (None, "")


@pytest.mark.parametrize("table", ["raw/okta/system_log", "events", "coverage"])
@pytest.mark.parametrize("left", [b"", bytes(512)], ids=["empty", "zeros"])
def test_a_commit_emptied_by_a_power_cut_is_reported_and_repaired_as_documented(
    still_world, table, left
):
    still_world.poll("okta")
    records = [record(f"more-{number}") for number in range(5)]
    still_world.running.sandbox.append("okta", "system_log", records)
    still_world.poll("okta")
    log = still_world.lake.local / table / "_delta_log"
    newest = max(log.glob("*.json"))
    newest.write_bytes(left)
    for _ in range(2):
        (report,) = still_world.poll("okta")
        assert f"{table}: its newest commit is empty" in report.error
        assert f"remove the file {newest} and poll again" in report.error
        assert "\n" not in report.error
    newest.unlink()
    (report,) = still_world.poll("okta")
    assert report.error is None
    check(still_world)


def test_a_503_on_any_page_loses_nothing(still_world):
    still_world.poll("okta")
    total, hasty = still_world.running.sandbox.requests("okta")[0], RetryPolicy(attempts=1)
    for index in range(total):
        lake = Lake(f"{still_world.lake.root}-{index}")
        world = World(running=still_world.running, lake=lake)
        world.disorder(Fault(kind="okta", fault="status", status=503, at=[index], count=1))
        report, *_ = world.poll("okta", connect=partial(client.connect, retry_policy=hasty))
        assert "503" in report.error
        world.poll("okta")
        check(world)


@pytest.mark.parametrize("kind", sorted(registry.kinds()))
def test_ten_idle_rounds_write_nothing_to_raw_and_make_few_requests(still_world, kind):
    source = still_world.source(kind, history="2d")
    rounds.poll(still_world.lake, [source])
    before = files_of(still_world.lake.local / "raw" / kind)
    for _ in range(10):
        for report in rounds.poll(still_world.lake, [source]):
            assert (report.rows, report.error) == (0, None)
            assert report.requests <= 3
    assert files_of(still_world.lake.local / "raw" / kind) == before


def files_of(folder):
    """Return path -> (size, modification time) of all files below."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def test_odd_records_are_stored_or_rejected_with_a_reason(still_world):
    good = record("good-1")
    odd = {
        "no id": b'{"published":"%s"}' % now(),
        "no time": b'{"uuid":"no-time"}',
        "far time": b'{"uuid":"far","published":"9999-01-01T00:00:00.000Z"}',
        "empty": b"{}",
        "not an object": b"17",
        "deep": b'{"uuid":"deep","debugContext":%s1%s}' % (b'{"a":[' * 999, b"]}" * 999),
    }
    strange = [
        b'{"uuid":"surrogate","published":"%s","eventType":"\\ud800"}' % now(),
        b'{"uuid":"wrong-types","published":"%s","actor":[1],"target":{"a":1},"client":"x"}'
        % now(),
        b'{"uuid":"twice","uuid":"twice-2","published":"%s"}' % now(),
        b'{"uuid":"nul","published":"%s","eventType":"a\\u0000b"}' % now(),
        b'{"uuid":"large","published":"%s","displayMessage":"%s"}' % (now(), b"x" * 1_000_000),
        b'{"uuid":"number","published":"%s","severity":1e999}' % now(),
        b'{"uuid":"numbers","published":"%s","severity":%s}' % (now(), b"9" * 5000),
    ]
    sandbox = still_world.running.sandbox
    sandbox.append("okta", "system_log", [good, *odd.values(), *strange, record("good-2")])
    for _ in range(2):
        still_world.poll("okta")
    stored = still_world.stored("okta", "system_log")
    raws = set(stored["raw"])
    assert {good.decode(), record("good-2").decode(), *(s.decode() for s in strange)} <= raws
    rejected = tables.scan(still_world.lake, "rejected").collect()
    assert sorted(rejected["raw"]) == sorted(odd.values())
    reasons = dict(rejected.select("raw", "reason").iter_rows())
    assert {name: reasons[raw] for name, raw in odd.items()} == {
        "no id": "no id",
        "no time": "no time that can be read",
        "far time": "time out of range: 9999-01-01",
        "empty": "no id",
        "not an object": "no id",
        "deep": "nested too deeply",
    }
    events = still_world.events("okta", "system_log")
    assert set(events["seq"]) == set(stored["seq"])


def record(uuid):
    return b'{"uuid":"%s","published":"%s","eventType":"user.session.start"}' % (
        uuid.encode(),
        b"2026-11-22T08:00:00.000Z",
    )


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()


def test_a_lost_cursor_costs_requests_but_no_rows(still_world):
    still_world.poll("okta")
    log = f"{still_world.lake.root}/raw/okta/system_log/_delta_log"
    handle = tables.open_table(still_world.lake, "raw/okta/system_log")
    handle.create_checkpoint()
    for version in range(handle.version() + 1):
        path = tables.Path(log) / f"{version:020}.json"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line.get("commitInfo", {}).pop("auditlake.cursor", None)
        path.write_text("\n".join(map(json.dumps, lines)))
    assert raw_rows.position(still_world.lake, StreamKey("okta", "system_log")).cursor is None
    (report,) = still_world.poll("okta")
    assert (report.error, report.rows) == (None, 0)
    check(still_world)
