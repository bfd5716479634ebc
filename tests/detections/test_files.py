"""The files of rules, and those that come with the program."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.detections import files
from pipelines.settings.detections import DetectionSettings

OWN = Path(__file__).parents[2] / "rules"


def test_the_folder_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = (Path("rules"), Path("/srv/sigma/rules"), Path("other"))
    assert files.places(chosen) == (OWN, *chosen[1:])
    (tmp_path / "rules").mkdir()
    assert files.places(chosen) == chosen


def test_a_file_counts_as_changed_if_it_was_modified_later(tmp_path):
    rules, values = tmp_path / "rules", tmp_path / "addresses.txt"
    rules.mkdir()
    for file in (rules / "one.yml", rules / "one.tests.yml", values):
        file.write_text("")
    chosen = DetectionSettings(rules=(rules,), overlay=tmp_path / "rules.toml")
    listed = chosen.model_copy(update={"watch_lists": {"addresses": values}})
    before = datetime.fromtimestamp((rules / "one.yml").stat().st_mtime, UTC) + timedelta(days=1)
    assert not files.changed(listed, before)
    later = (before + timedelta(days=1)).timestamp()
    os.utime(rules / "one.tests.yml", (later, later))
    assert not files.changed(listed, before)
    os.utime(values, (later, later))
    assert files.changed(listed, before)
    assert not files.changed(chosen, before)
    (tmp_path / "rules.toml").write_text("")
    os.utime(tmp_path / "rules.toml", (later, later))
    assert files.changed(chosen, before)
    assert files.stamp(chosen) != files.stamp(listed)
