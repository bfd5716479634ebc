"""The rules that come with the program."""

from pathlib import Path

from pipelines.detections import packaged

OWN = Path(__file__).parents[2] / "rules"


def test_the_folder_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = (Path("rules"), Path("/srv/sigma/rules"), Path("other"))
    assert packaged.places(chosen) == (OWN, *chosen[1:])
    (tmp_path / "rules").mkdir()
    assert packaged.places(chosen) == chosen
