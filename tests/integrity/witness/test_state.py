"""The state of a witness: durable, of one process, and never taken for empty."""

import json
import os
import stat
import subprocess
import sys

import pytest

from pipelines.errors import ConfigurationError
from pipelines.integrity import note
from pipelines.integrity.witness import state
from tests.integrity.witness.killing import SIZES
from tests.integrity.witness.trees import Log

LOG = Log(note.new_key("audit.example"))


def keep(opened, size):
    opened.keep(state.tree_in(LOG.text(size)), LOG.checkpoint(size))


def test_what_was_kept_is_there_after_a_restart(tmp_path):
    with state.opened(tmp_path / "state") as opened:
        assert opened.newest(LOG.origin) is None
        keep(opened, 3)
        keep(opened, 5)
    with state.opened(tmp_path / "state") as opened:
        assert opened.newest(LOG.origin) == state.tree_in(LOG.text(5))
        assert opened.origins() == [LOG.origin]
        assert opened.note(state.name_of(LOG.origin)) == LOG.checkpoint(5)
        assert opened.note("../state") is opened.note("0" * 64) is None


def test_a_checkpoint_is_flushed_before_it_is_known(tmp_path, monkeypatch):
    """An error of the disk leaves the old state, and nothing may be answered."""
    flushed = []
    real = os.fsync
    with state.opened(tmp_path / "state") as opened:
        keep(opened, 3)
        monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(fd), real(fd)))
        keep(opened, 4)
        assert len(flushed) >= 2  # the file, and its name

        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            keep(opened, 5)
        assert opened.newest(LOG.origin).size == 4


def test_two_processes_never_share_a_state(tmp_path):
    with (
        state.opened(tmp_path / "state"),
        pytest.raises(ConfigurationError, match="another witness"),
        state.opened(tmp_path / "state"),
    ):
        pass


def test_a_damaged_state_is_not_taken_for_an_unknown_log(tmp_path):
    with state.opened(tmp_path / "state") as opened:
        keep(opened, 3)
    (file,) = (path for path in (tmp_path / "state").iterdir() if path.name[0] != ".")
    for damage in (b"", file.read_bytes().replace(LOG.origin.encode(), b"x"), b"\xff"):
        file.write_bytes(damage)
        with (
            pytest.raises(ConfigurationError, match="restore it from a backup"),
            state.opened(tmp_path / "state"),
        ):
            pass


def test_only_its_user_can_read_the_state(tmp_path):
    with state.opened(tmp_path / "state") as opened:
        keep(opened, 3)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_witness_that_is_killed_never_forgets_what_it_cosigned(tmp_path):
    """Killed at each of its file operations, among them between writing and answering."""
    module = "tests.integrity.witness.killing"
    command = [sys.executable, "-m", module, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(runs) > 8
    assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]
    assert runs[-1]["answered"] == list(SIZES)
    for run in runs:
        assert run["held"] >= max(run["answered"], default=0)
        assert run["then"] == [409, 409, 422][: len(run["then"])]
    # A checkpoint may be stored and not answered, but not the other way round.
    assert any(run["held"] > max(run["answered"], default=0) for run in runs)
