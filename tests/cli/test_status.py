"""The state of each stream, as the command line prints it."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from pipelines import visible
from pipelines.cli import config_file, status
from pipelines.extraction.schedule import NextPoll
from pipelines.lake import coverage, events, raw, streams
from pipelines.lake.coverage import Entry
from pipelines.lake.stream_state import Facts
from pipelines.lake.tables import Lake, StreamKey
from sandbox.faults import Fault
from tests.cli.command import auditlake, configure, run
from tests.lake.batches import LOG, NOON, batch, part
from tests.webhooks.conftest import source


def test_status_and_coverage_show_streams_that_are_only_configured_or_only_in_the_lake(
    still_world, tmp_path
):
    configure(still_world, tmp_path)
    lake, other = Lake(str(tmp_path / "data")), StreamKey("former", "audit")
    now = datetime.now(UTC).replace(microsecond=0)
    hours = [now - timedelta(hours=n) for n in range(4)]
    streams.record(lake, other, Facts(kind="okta", title="Okta", keeps=timedelta(days=9)), now)
    gone = Entry(since=hours[2], until=hours[1], asked_at=now, outcome="gone", reason="404: blob")
    done = Entry(since=hours[3], until=now, asked_at=now)
    failed = Entry(since=now, until=now, asked_at=now, outcome="failed", reason="401: bad token")
    coverage.record(lake, other, [done, gone, failed])
    found = json.loads(auditlake(tmp_path, "status", "--json").stdout)
    assert [(one["integration"], one["kind"], one["state"]) for one in found] == [
        ("okta", "okta", "never polled"),
        ("former", "okta", "failing"),
    ]
    assert found[1]["failure"] == "401: bad token"
    assert (found[1]["gaps"], found[1]["lost"]) == (1, 1)
    text = auditlake(tmp_path, "status").stdout.decode()
    assert f"former audit: failing since {now:%Y-%m-%d %H:%M:%S} UTC: 401: bad token" in text
    assert "former audit: 1 range is lost: `auditlake coverage former` lists them" in text
    text = auditlake(tmp_path, "coverage", "former").stdout.decode()
    assert text.splitlines()[0] == "former audit"
    assert [line.split()[0] for line in text.splitlines()[1:]] == ["complete", "complete", "LOST"]
    assert auditlake(tmp_path, "coverage", "unknown").returncode == 2


@pytest.fixture
def narrowed(tmp_path):
    """A deployment from whose configuration one integration and one stream were removed."""
    keys = {"tenant_id": "t", "client_id": "c", "client_secret": "x" * 20, "streams": ["sign_ins"]}
    root, state = str(tmp_path / "data"), str(tmp_path / "state")
    text = config_file.document({"entra_id": keys}, root, integrity=state)
    (tmp_path / "auditlake.toml").write_text(text)
    lake, now = Lake(root), datetime.now(UTC).replace(microsecond=0)
    then = now - timedelta(hours=9)
    for log in FORMER:
        done = Entry(since=then - timedelta(hours=1), until=then, asked_at=then)
        streams.record(lake, log, Facts(kind=log.integration), then)
        coverage.record(lake, log, [done])
    return tmp_path, then


FORMER = [StreamKey("entra_id", "directory_audits"), StreamKey("okta", "system_log")]


def printed(folder, *arguments, code=0):
    done = run(folder, *arguments)
    assert done.exit_code == code, done.output
    return done.output


def test_a_stream_that_is_switched_off_stays_visible_until_it_is_retired(narrowed):
    folder, then = narrowed
    states = {log.app: "not polled" for log in FORMER} | {"entra_id/sign_ins": "never polled"}

    def shown(command):
        found = json.loads(printed(folder, command, "--json"))
        return {f"{one['integration']}/{one['stream']}": one["state"] for one in found}

    line = f"not polled since {then:%Y-%m-%d %H:%M:%S} UTC, because it is no longer configured"
    for command in ("status", "coverage"):
        assert shown(command) == states
        assert printed(folder, command).count(line) == 2
    done = printed(folder, "retire", "okta", "--why", "replaced", "--who", "ada")
    assert done == "okta/system_log: retired, recorded and signed\n"
    for command in ("status", "coverage"):
        assert shown(command) == states | {"okta/system_log": "retired"}
        assert printed(folder, command).count(line) == 1
        assert "retired at" in printed(folder, command)
    printed(folder, "retire", "entra_id", "--why", "replaced")
    assert shown("status")["entra_id/directory_audits"] == "retired"


@pytest.mark.parametrize(
    ("name", "advice"),
    [("entra_id/sign_ins", "remove it from the configuration"), ("okra", "`auditlake status`")],
)
def test_only_a_stream_that_is_not_configured_can_be_retired(narrowed, name, advice):
    folder, _ = narrowed
    assert advice in printed(folder, "retire", name, "--why", "replaced", code=2)


def test_the_reasons_of_a_vendor_cannot_forge_a_line_or_hide(still_world, tmp_path):
    configure(still_world, tmp_path)
    lake, now = Lake(str(tmp_path / "data")), datetime.now(UTC).replace(microsecond=0)
    reason = "503: busy\ncomplete  always \x1b[8m\u202e"
    since = now - timedelta(hours=1)
    gone = Entry(since=since, until=now, asked_at=now, outcome="gone", reason=reason)
    failed = Entry(since=now, until=now, asked_at=now, outcome="failed", reason=reason)
    coverage.record(lake, StreamKey("okta", "system_log"), [gone, failed])
    shown = b"".join(auditlake(tmp_path, name).stdout for name in ("status", "coverage")).decode()
    assert shown.count("503: busy[U+000A]complete  always [U+001B][8m[U+202E]") >= 2
    assert visible.text(shown, keep="\n") == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 minute"), (7199, "1 hour"), (7200, "2 hours"),
     (86399, "23 hours"), (86400, "1 day"), (10 * 86400, "10 days")],
)  # fmt: skip
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds, text):
    assert status.length(timedelta(seconds=seconds)) == text


def test_an_age_is_never_negative_and_may_be_unknown():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert status.age(now - timedelta(hours=3), now) == "3 hours ago"
    assert status.age(now + timedelta(hours=3), now) == "0 s ago"
    assert status.age(None, now) == "never"


def test_the_next_poll_is_shown_with_its_reason_until_it_is_due():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    plan = NextPoll(next=now + timedelta(minutes=1), interval=60.0, why="nothing new")
    assert status.ahead(plan, now) == "in 1 minute, every 60 s: nothing new"
    assert status.ahead(plan, plan.next) == "due, every 60 s: nothing new"
    assert status.ahead(None, now) == ""


def test_ids_of_the_last_week_that_arrived_with_other_content_are_counted(lake):
    okta = source("okta")
    rows = batch("a", "b")
    raw.append(lake, LOG, rows, "c")
    other = rows.with_columns(raw=pl.lit('{"uuid":"x"}'), raw_sha256=pl.lit("0"))
    raw.append(lake, LOG, other.with_columns(via=pl.lit("webhook")), None)
    (state,) = status.states(lake, [okta], NOON + timedelta(days=6))
    assert state.differing == 2
    assert list(status.notes([state])) == [
        "okta system_log: other content arrived for 2 ids in the last week: "
        "`auditlake verify --full --table raw/okta/system_log` names them"
    ]
    (later,) = status.states(lake, [okta], NOON + timedelta(days=9))
    assert later.differing == 0


def test_the_rows_and_events_of_a_stream_are_those_of_its_tables(lake):
    okta, now = source("okta"), datetime.now(UTC)
    (before,) = status.states(lake, [okta], now)
    assert (before.rows, before.version, before.newest_event) == (0, -1, None)
    raw.append(lake, LOG, batch("a", "b"), "c")
    (behind,) = status.states(lake, [okta], now)
    assert (behind.rows, behind.events, behind.version) == (2, 0, 1)
    assert behind.newest_event == NOON + timedelta(seconds=ord("b"))
    assert (behind.last_arrival, behind.late) == (NOON, None)
    assert behind.bytes == sum(file.stat().st_size for file in lake.local.rglob("*.parquet"))
    events.append_batches(lake, [part(LOG, 0, 2)])
    (done,) = status.states(lake, [okta], now)
    assert (done.rows, done.events) == (2, 2)


@pytest.mark.parametrize("command", ["doctor", "poll"])
def test_status_reports_a_credential_that_ends_soon_once_a_command_has_queried_it(
    still_world, tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    keys = {**still_world.running.settings()["cloudflare"], "history": "1h"}
    (tmp_path / "auditlake.toml").write_text(config_file.document({"cloudflare": keys}))
    assert "ends on" not in run(tmp_path, "status").output
    end = datetime.now(UTC) + timedelta(days=9, hours=12)
    body = json.dumps({"success": True, "result": {"expires_on": end.isoformat()}})
    still_world.disorder(
        Fault(kind="cloudflare", fault="answer", status=200, body=body, path="/verify", every=True)
    )
    said = f"cloudflare: the API token ends on {end:%Y-%m-%d}, in 9 days: roll it"
    output = run(tmp_path, command).output
    assert (f"WARN  {said}" in output) == (command == "doctor")
    assert said in run(tmp_path, "status").output


def test_status_reports_the_end_of_opsgenie_without_any_request(lake):
    now = datetime(2026, 11, 29, tzinfo=UTC)
    (line,) = status.endings(lake, [source("opsgenie"), source("okta")], now)
    assert line.startswith("opsgenie: Opsgenie's API ends on 2027-04-05, in 127 days: fetch all")
    after = datetime(2027, 5, 1, tzinfo=UTC)
    (line,) = status.endings(lake, [source("opsgenie")], after)
    assert line.startswith("opsgenie: Opsgenie's API ended on 2027-04-05: ")


@pytest.mark.parametrize("command", ["status", "coverage"])
def test_a_lake_that_is_gone_and_one_without_streams_say_so(tmp_path, command):
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{tmp_path / "lake"}"\n')
    missing = run(tmp_path, command)
    assert (missing.exit_code, "lake does not exist: correct lake.root" in missing.stderr) == (0, 1)
    (tmp_path / "lake").mkdir()
    empty = run(tmp_path, command, "--json")
    assert (json.loads(empty.stdout), empty.exit_code) == ([], 0)
    assert empty.stderr == "no integration is configured, and the lake has no streams\n"
