"""The commands that fetch, as a user runs them."""

import json
import re

import polars as pl

from tests.cli.command import auditlake, configure


def test_replay_ends_with_a_line_of_what_it_did(still_world, tmp_path):
    configure(still_world, tmp_path)
    done = auditlake(tmp_path, "replay")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"1 stream: 0 stored, 0 still rejected\n"


SIGN_INS = """
title: Any sign-in
id: 11111111-2222-4333-8444-555555555555
level: low
logsource: {product: okta, service: okta}
detection: {s: {eventType|startswith: user}, condition: s}
"""


def test_poll_evaluates_the_rules_on_what_has_landed(still_world, tmp_path):
    configure(still_world, tmp_path, poll_every="1h")
    rules = tmp_path / "rules.yml"
    rules.write_text(SIGN_INS)
    with (tmp_path / "auditlake.toml").open("a") as config:
        config.write(f'[detections]\nrules = ["{rules}"]\n')
    lines = auditlake(tmp_path, "poll").stdout.decode().splitlines()
    rows = pl.read_delta(str(tmp_path / "data/raw/okta/system_log")).height
    found = re.fullmatch(r"detections: ([\d,]+) findings in ([\d,]+) rows", lines[-1])
    assert found, lines
    assert 0 < int(found[1].replace(",", "")) <= int(found[2].replace(",", "")) == rows
    assert b"findings: ok" in auditlake(tmp_path, "verify", "--table", "findings").stdout
    (tmp_path / "rules.toml").write_text("[rules")
    done = auditlake(tmp_path, "poll", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert done.stderr.startswith(b"detections: FAILED: rules.toml: not valid TOML")


def test_poll_every_is_a_floor(still_world, tmp_path):
    configure(still_world, tmp_path, poll_every="1h")
    assert len(json.loads(auditlake(tmp_path, "poll", "--json").stdout)) == 1
    assert json.loads(auditlake(tmp_path, "poll", "--json").stdout) == []
