"""Signing keys: their sources, permissions and rotation."""

import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines import disk
from pipelines.errors import ConfigurationError
from pipelines.integrity import keys, note
from pipelines.integrity.note import Head
from pipelines.settings import IntegritySettings
from tests.integrity import matrix
from tests.integrity.worlds import Signed

HEAD = Head(origin="auditlake/okta/system_log/1", size=7, root=b"r" * 32)


def test_a_key_is_created_on_first_use_and_readable_only_by_its_owner(tmp_path):
    settings = IntegritySettings(folder=tmp_path / "state")
    (key,) = keys.signing(settings)
    (file,) = (tmp_path / "state/keys").glob("*.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert [k.vkey for k in keys.signing(settings)] == [key.vkey] == keys.trusted(settings)


def test_processes_that_trust_keys_at_once_keep_all_of_them(tmp_path):
    settings = IntegritySettings(folder=tmp_path / "state")
    made = [note.new_key(f"key-{number}").vkey for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda vkey: keys.trust(settings, vkey), made))
    assert sorted(keys.trusted(settings)) == sorted(made)
    keys.trust(settings, made[0])
    assert len((tmp_path / "state" / "trusted.txt").read_text().split()) == len(made)


def test_a_key_is_added_after_a_last_line_without_a_newline(tmp_path):
    settings, (first, second) = IntegritySettings(folder=tmp_path), [note.new_key(n) for n in "ab"]
    (tmp_path / "trusted.txt").write_text(first.vkey)
    keys.trust(settings, second.vkey)
    assert keys.trusted(settings) == [first.vkey, second.vkey]


def test_a_key_that_others_can_read_is_refused(tmp_path):
    settings = IntegritySettings(folder=tmp_path)
    keys.signing(settings)
    (tmp_path / "keys/0001.key").chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keys.signing(settings)


def test_a_key_comes_from_the_environment_a_file_or_a_command(tmp_path, monkeypatch):
    key = note.new_key("vault")
    monkeypatch.setenv("SIGNING_KEY", key.secret)
    (tmp_path / "key").write_text(key.secret)
    command = ("sh", "-c", 'echo "$SIGNING_KEY"')
    for source in (
        {"keys": [{"env": "SIGNING_KEY"}]},
        {"keys": [{"file": str(tmp_path / "key")}]},
        {"key_command": command},
    ):
        settings = IntegritySettings(folder=tmp_path / "state", **source)
        assert [k.vkey for k in keys.signing(settings)] == [key.vkey]
        assert not (tmp_path / "state/keys").exists()
        assert key.secret not in repr(settings)


def test_the_error_of_a_failing_key_command_omits_its_output(tmp_path):
    settings = IntegritySettings(folder=tmp_path, key_command=("sh", "-c", "echo secret; exit 3"))
    with pytest.raises(ConfigurationError) as error:
        keys.signing(settings)
    assert "secret" not in str(error.value)


def test_during_a_rotation_both_keys_sign_and_either_is_enough(tmp_path):
    settings = IntegritySettings(folder=tmp_path)
    (old,) = keys.signing(settings)
    keys.rotate(settings)
    both = keys.signing(settings)
    text = note.signed(HEAD.text, both)
    assert [note.opened(text, [key.vkey]) for key in both] == [HEAD, HEAD]
    assert keys.retire(settings) == "0001.key"
    assert [key.vkey for key in keys.signing(settings)] == [both[1].vkey]
    assert old.vkey in keys.trusted(settings), "what it signed stays valid"
    with pytest.raises(ConfigurationError, match="only one key is left"):
        keys.retire(settings)


def test_a_retired_key_does_not_return_after_a_power_cut(tmp_path, monkeypatch):
    settings = IntegritySettings(folder=tmp_path)
    keys.rotate(settings)
    left = []
    monkeypatch.setattr(disk, "sync", lambda path: left.append(sorted(path.glob("*.key"))))
    keys.retire(settings)
    assert left == [[tmp_path / "keys" / "0002.key"]]


def test_two_processes_that_race_create_one_key(tmp_path):
    settings = IntegritySettings(folder=tmp_path)
    keys.signing(settings)
    beaten = keys._add(settings, 1)
    assert [key.vkey for key in keys.signing(settings)] == [beaten.vkey]
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["0001.key"]


def test_streams_that_start_at_once_create_one_key(tmp_path):
    settings = IntegritySettings(folder=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: keys.signing(settings)[0].vkey, range(32)))
    assert set(found) == {keys.signing(settings)[0].vkey}
    assert keys.trusted(settings) == found[:1]
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["0001.key"]


def test_the_local_state_is_readable_only_by_its_owner(tmp_path):
    Signed(tmp_path).fill(10)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@matrix.attack(
    "place a signing key that the attacker knows",
    "an error, nothing is signed",
    matrix.OWNER,
)
def test_a_key_or_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    """They could know the key, and sign whatever they like."""
    settings = IntegritySettings(folder=tmp_path / "state")
    keys.signing(settings)
    if os.geteuid() == 0:
        for path in (tmp_path / "state" / "keys" / "0001.key", tmp_path / "state"):
            os.chown(path, 65534, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    for path in (tmp_path / "state" / "keys" / "0001.key", tmp_path / "state"):
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            keys._check_owner(path)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        keys.signing(settings)


def test_a_machine_that_has_a_key_trusts_it_before_it_signs(tmp_path):
    first = IntegritySettings(folder=tmp_path / "first")
    (key,) = keys.signing(first)
    shutil.copytree(tmp_path / "first/keys", tmp_path / "copied/keys")
    for settings in (
        IntegritySettings(folder=tmp_path / "copied"),
        IntegritySettings(folder=tmp_path / "given", keys=(key.secret,)),
        IntegritySettings(folder=tmp_path / "printed", key_command=("echo", key.secret)),
    ):
        assert keys.trusted_anew(settings) == [key.vkey]
    auditor = IntegritySettings(folder=tmp_path / "auditor")
    assert (keys.trusted_anew(auditor), list((tmp_path / "auditor").iterdir())) == ([], [])
