"""The shared folder is private and never another user's."""

import os

import pytest

from pipelines.settings import folders
from tests.integrity import matrix


def foreign(path):
    """Create a folder as another user would."""
    path.mkdir(parents=True)
    path.chmod(0o777)
    os.chown(path, 65534, -1)


def test_the_shared_folder_is_private_and_in_the_state_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert folders.shared_folder() == tmp_path / "state" / "auditlake"
    assert (tmp_path / "state" / "auditlake").stat().st_mode & 0o777 == 0o700


def test_without_a_home_it_lies_next_to_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    assert folders.shared_folder() == tmp_path / ".auditlake"
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "file" / "auditlake.toml"))
    assert folders.shared_folder() is None


@matrix.attack(
    "create the state folder before the operator does",
    "not used, with a warning",
    matrix.OWNER,
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_that_another_user_created_first_is_not_used(tmp_path, monkeypatch, caplog):
    foreign(tmp_path / "state" / "auditlake")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "auditlake.toml"))
    assert [folders.shared_folder() for _ in range(3)] == [tmp_path / ".auditlake"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}/state/auditlake belongs to another user and is not used: set XDG_STATE_HOME"
    ]
