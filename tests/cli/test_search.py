"""The command that searches events."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.lake.tables import Lake
from tests.cli import command
from tests.dashboard import small_lakes
from tests.extraction.test_renormalise import land, made, record

NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)


@pytest.fixture
def search(tmp_path):
    rows = small_lakes.events(60, end=NOON)
    hostile = {"actor_email": "evil\x1b[31m\u202e@x.example", "action": "hostile", "time": NOON}
    small_lakes.append(tmp_path / "lake", [*rows, rows[0] | hostile | {"event_uid": "hostile"}])
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{tmp_path / "lake"}"\n')
    return lambda *arguments: command.run(tmp_path, "search", *arguments)


def test_matching_events_are_printed_newest_first_with_their_number(search):
    done = search("integration:okta", "--limit", "3")
    header, *lines = done.stdout.splitlines()
    assert header.split()[:3] == ["time", "(UTC)", "integration"]
    assert len(lines) == 3
    assert lines == sorted(lines, reverse=True)
    assert all("okta" in line for line in lines)
    assert done.stderr.startswith("3 of ")
    assert "--limit prints more" in done.stderr


def test_json_has_every_column_and_the_range_is_respected(search):
    since = NOON - timedelta(days=2)
    done = search("NOT action:hostile", "--json", "--since", since.isoformat(), "--limit", "500")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 20
    assert {"event_uid", "targets", "seq"} <= rows[0].keys()
    assert min(datetime.fromisoformat(row["time"]) for row in rows) >= since
    assert done.stderr == "20 of 20 events\n"


def test_a_search_without_matches_prints_only_the_number(search):
    done = search("actor:nobody")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "0 of 0 events\n")


def test_deceptive_characters_are_marked_in_the_table_and_escaped_in_json(search):
    shown = search("action:hostile").stdout
    assert "evil[U+001B][31m[U+202E]@x.example" in shown
    assert "\x1b" not in shown
    written = search("action:hostile", "--json").stdout
    assert "\u202e" not in written
    assert json.loads(written)["actor_email"] == "evil\x1b[31m\u202e@x.example"


def test_a_search_that_is_not_understood_is_refused_at_the_place(search):
    done = search("a acter:ada")
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert "unknown field 'acter': use actor" in lines[0]
    assert lines[1][lines[2].index("^") :] == "acter:ada"


def test_an_empty_lake_is_reported(tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{tmp_path / "lake"}"\n')
    done = command.run(tmp_path, "search", "ada")
    assert done.exit_code == 1
    assert "no events yet" in done.stderr


def test_a_search_is_refused_before_the_lake_is_read(tmp_path):
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{tmp_path / "lake"}"\n')
    assert command.run(tmp_path, "search", "acter:ada").exit_code == 2


def test_missing_events_are_explained(search, tmp_path):
    (tmp_path / "lake" / "events").rename(tmp_path / "moved")
    for done in (search("ada"), command.run(tmp_path, "export", "--format", "csv")):
        assert done.exit_code == 1
        assert "no events, but records are stored: `auditlake poll` derives" in done.stderr
    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    for done in (search("ada"), command.run(tmp_path, "export", "--format", "csv")):
        assert done.exit_code == 1
        assert f"{tmp_path / 'lake'} does not exist: correct lake.root" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("search", "a"), ("export", "--format=csv"), ("evidence", "--search=a"), ("certify",)],
    ids=lambda arguments: arguments[0],
)
def test_a_range_that_ends_before_it_begins_is_refused(search, tmp_path, arguments):
    out = () if arguments[0] in ("search", "export") else ("--out", str(tmp_path / "out"))
    span = ("--since", "2026-11-20T08:00Z", "--until", "2026-11-20T08:00Z")
    done = command.run(tmp_path, *arguments, *out, *span)
    assert done.exit_code == 2
    assert "--since must be before --until" in done.stderr
    assert not (tmp_path / "out").exists()


def test_following_prints_each_new_match_once_and_ends_cleanly(tmp_path):
    history = made()(Lake(str(tmp_path / "lake")))
    land(history, record(1, who="ada"), record(2, who="bob"))
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{tmp_path / "lake"}"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "search", "ada", "--follow", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": command.PROJECT, "HOME": str(tmp_path)},
    )
    try:
        assert json.loads(process.stdout.readline())["seq"] == 0
        for number in range(3, 6):
            land(history, record(number, who="ada"), record(number + 10, who="bob"))
            assert json.loads(process.stdout.readline())["event_id"] == f"i{number}"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (rest, process.returncode) == ("", 0)
    assert errors == "1 of 1 event\n4 events printed\n"


def test_following_has_no_end(search):
    done = search("ada", "--follow", "--until", "2026-11-18")
    assert (done.exit_code, "leave out --until" in done.stderr) == (2, True)
