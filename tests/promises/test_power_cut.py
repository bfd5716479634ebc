"""Whatever was acknowledged survives a power cut, and the rest is fetched again.

AUDITLAKE_POWER_CUTS sets the number of disks that are restarted from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from pipelines import disk
from tests.promises.power_cuts import Recorder, disks
from tests.promises.restarts import problems, recorded
from tests.tiers import some

POWER_CUTS = int(os.environ.get("AUDITLAKE_POWER_CUTS", "40"))
SEED = 11


def test_after_a_power_cut_nothing_acknowledged_is_missing_and_all_else_is_fetched_again(tmp_path):
    """`make soak` does the same two thousand times."""
    with recorded(tmp_path / "disk") as recording:
        found = [
            (cut.moment.about, cut.how, problem)
            for cut, problem in problems(recording, tmp_path, POWER_CUTS, SEED)
        ]
    assert len(found) == POWER_CUTS
    assert [each for each in found if each[2]] == []


REMOVED: dict[str, Callable[[Path], bool]] = {
    "of data files": lambda path: path.suffix == ".parquet",
    "of commits": lambda path: path.suffix == ".json",
    "of other files": lambda path: path.name.endswith(disk.DRAFT),
    "of logs' folders": lambda path: path.name == "_delta_log",
    "of data files' folders": lambda path: path.name.startswith("date="),
    "of tables' folders": lambda path: path.name == "system_log",
    "of operator acts' folders": lambda path: "acts" in path.parts,
    "of the spool's folders": lambda path: path.parent.name == "spool",
    "of the lake's folder": lambda path: path.name == "lake",
}


@pytest.mark.parametrize("which", some(REMOVED, 4))
def test_without_a_flush_something_acknowledged_is_missing(tmp_path, which):
    with recorded(tmp_path / "disk", without=REMOVED[which]) as recording:
        found = [problem for _, problem in problems(recording, tmp_path, 5, SEED)]
    assert any("acknowledged" in problem for problem in found), found


@contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    folder.mkdir()
    recorder = Recorder(folder, None)
    with recorder.recording():
        yield recorder
        recorder.acknowledge("the end", None)


def left_by(recorder: Recorder) -> set[tuple[tuple[str, bytes], ...]]:
    """Return the files of all disks that a cut may leave at the end."""
    cuts = disks(recorder.moments[-1:], 200, Random(SEED))
    return {tuple(sorted(cut.files.items())) for cut in cuts}


def test_a_recorded_write_is_there_in_full_in_part_or_not_at_all(tmp_path):
    with recording(tmp_path / "disk") as recorder:
        (recorder.folder / "a").write_bytes(b"x" * 1500)
    part = b"x" * 1024
    assert left_by(recorder) == {
        (),
        (("a", b""),),
        (("a", part),),
        (("a", part + bytes(476)),),
        (("a", b"x" * 1500),),
    }


def test_a_recorded_rename_leaves_the_old_file_or_the_new_one(tmp_path):
    with recording(tmp_path / "disk") as recorder:
        disk.write_atomically(recorder.folder / "a", b"old")
        disk.write_atomically(recorder.folder / "a", b"new", durable=False)
    assert {dict(files)["a"] for files in left_by(recorder)} == {b"old", b"", bytes(3), b"new"}


def test_a_durable_write_in_a_new_folder_is_certain(tmp_path):
    with recording(tmp_path / "disk") as recorder:
        (recorder.folder / "new" / "folder").mkdir(parents=True)
        disk.write_atomically(recorder.folder / "new" / "folder" / "a", b"text")
    assert left_by(recorder) == {(("new/folder/a", b"text"),)}


def test_a_file_flushed_in_a_folder_that_is_not_may_be_gone(tmp_path):
    with recording(tmp_path / "disk") as recorder:
        (recorder.folder / "new").mkdir()
        (recorder.folder / "new" / "a").write_bytes(b"text")
        disk.sync(recorder.folder / "new" / "a")
        disk.sync(recorder.folder / "new")
    assert left_by(recorder) == {(), (("new/a", b"text"),)}
