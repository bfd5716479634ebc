"""The commands that fetch, as a user runs them."""

import json

from tests.cli.command import auditlake, configure


def test_replay_ends_with_a_line_of_what_it_did(still_world, tmp_path):
    configure(still_world, tmp_path)
    done = auditlake(tmp_path, "replay")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"1 stream: 0 stored, 0 still rejected\n"


def test_poll_every_is_a_floor(still_world, tmp_path):
    configure(still_world, tmp_path, poll_every="1h")
    assert len(json.loads(auditlake(tmp_path, "poll", "--json").stdout)) == 1
    assert json.loads(auditlake(tmp_path, "poll", "--json").stdout) == []
