"""The section [detections]."""

from pathlib import Path

import pytest

from pipelines import settings
from pipelines.errors import ConfigurationError


def test_rules_are_files_and_folders(tmp_path):
    file = tmp_path / "auditlake.toml"
    file.write_text('[detections]\nrules = ["rules", "/srv/sigma/rules"]\n')
    assert settings.load(file).detections.rules == (Path("rules"), Path("/srv/sigma/rules"))
    file.write_text("")
    assert settings.load(file).detections.rules == (Path("rules"),)


def test_watch_lists_have_names_that_a_placeholder_may_have(tmp_path):
    file = tmp_path / "auditlake.toml"
    file.write_text('[detections.watch_lists]\nlisted_addresses = "lists/bad.txt"\n')
    found = settings.load(file).detections.watch_lists
    assert found == {"listed_addresses": Path("lists/bad.txt")}
    file.write_text('[detections.watch_lists]\n"a b" = "bad.txt"\n')
    with pytest.raises(ConfigurationError, match="give a name of letters"):
        settings.load(file)


def test_an_unknown_key_is_an_error(tmp_path):
    file = tmp_path / "auditlake.toml"
    file.write_text('[detections]\nrule = ["rules"]\n')
    with pytest.raises(ConfigurationError, match=r"detections.rule: unknown key"):
        settings.load(file)
