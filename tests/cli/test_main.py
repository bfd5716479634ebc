"""The command line: one clear line per error, exit codes, no secrets in the output."""

import json

import pytest

from tests.cli.command import auditlake, configure


def test_poll_status_and_doctor_agree_with_the_service(still_world, tmp_path):
    configure(still_world, tmp_path)
    done = auditlake(tmp_path, "poll")
    assert (done.returncode, done.stderr) == (0, b"")
    issued = len(still_world.issued("okta", "system_log"))
    assert f"okta system_log: {issued:,} new of {issued:,} rows" in done.stdout.decode()
    again = json.loads(auditlake(tmp_path, "poll", "okta", "--json").stdout)
    assert (again[0]["rows"], again[0]["total"], again[0]["error"]) == (0, issued, None)
    (state,) = json.loads(auditlake(tmp_path, "status", "--json").stdout)
    assert (state["rows"], state["events"], state["state"]) == (issued, issued, "up to date")
    assert "okta system_log" in auditlake(tmp_path, "status").stdout.decode()
    assert auditlake(tmp_path, "doctor").stdout.decode().count("ok  ") == 2


@pytest.mark.parametrize(
    ("keys", "code", "error"),
    [
        ({"api_tokn": "s3cret"}, 2, "api_tokn: unknown key"),
        ({"api_token": {"env": "MISSING_TOKEN"}}, 2, "MISSING_TOKEN is not set"),
        ({"api_token": "s3cret-wrong"}, 1, "create a new API token"),
        ({"base_url": "http://127.0.0.1:9/okta"}, 1, "cannot connect"),
    ],
)
def test_each_configuration_error_is_one_clear_line(still_world, tmp_path, keys, code, error):
    configure(still_world, tmp_path, **keys)
    for command in ("poll", "doctor"):
        done = auditlake(tmp_path, command)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == code
        assert error in output
        assert "Traceback" not in output
        assert "s3cret" not in output


def test_an_unwritable_lake_is_one_clear_line_and_nothing_is_lost(still_world, tmp_path):
    configure(still_world, tmp_path)
    (tmp_path / "data").write_text("in the way")
    done = auditlake(tmp_path, "poll")
    assert done.returncode == 1
    assert "lake.root" in done.stdout.decode()
    assert "Traceback" not in done.stderr.decode()
    (tmp_path / "data").unlink()
    assert auditlake(tmp_path, "poll").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [("poll",), ("poll", "--config", "x"), ("status",), ("normalise", "octa", "x")],
)
def test_a_missing_configuration_exits_with_two(tmp_path, arguments):
    done = auditlake(tmp_path, *arguments)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_every_command_has_help(tmp_path):
    listed = auditlake(tmp_path, "--help").stdout.decode().split("\nStart:")[1].splitlines()
    commands = [line.split()[0] for line in listed if line.startswith("  ")]
    assert {"poll", "normalise", "status", "doctor", "sandbox"} <= set(commands)
    for command in ("poll", "normalise", "sandbox"):
        assert b"Usage:" in auditlake(tmp_path, command, "--help").stdout
