"""Signatures, compared with another implementation; sources and permissions of keys."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigurationError
from pipelines.integrity import keys, note, signer
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import audit
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from tests.integrity.worlds import Signed

HEAD = Head(origin="auditlake/okta/system_log/1", size=7, root=b"r" * 32)


@given(message=st.binary(max_size=200), seed=st.binary(min_size=32, max_size=32), bit=st.data())
def test_the_auditors_ed25519_agrees_with_cryptography(message, seed, bit):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert audit.ed25519(public, message, signature)
    flipped = bytearray(signature)
    at = bit.draw(st.integers(0, 511))
    flipped[at // 8] ^= 1 << at % 8
    assert not audit.ed25519(public, message, bytes(flipped))
    assert not audit.ed25519(public, message + b"x", signature)


def test_a_signature_is_accepted_in_one_form_only():
    """S and S + L both satisfy the equation; RFC 8032 accepts only the smaller."""
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    signature, order = private.sign(b"m"), 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    other = signature[:32] + scalar.to_bytes(32, "little")
    assert not audit.ed25519(private.public_key().public_bytes_raw(), b"m", other)


def test_signer_and_auditor_read_the_same_note():
    key = note.new_key("example.com/log")
    text = note.signed(HEAD.text, [key])
    assert note.opened(text, [key.vkey]) == HEAD
    head = audit.read_checkpoint(text.decode(), [key.vkey])
    assert (head.origin, head.size, head.root) == (HEAD.origin, HEAD.size, HEAD.root)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"\n7\n", b"\n8\n"),
        lambda text: text.replace(b"okta", b"oktb"),
        lambda text: text.replace(b"\n7\n", b"\n07\n"),
        lambda text: text.replace(b"\n\n", b"\nmore\n\n"),
        lambda text: text.replace("\u2014".encode(), b"-"),
        lambda text: text[:-3],
        lambda text: b"",
        lambda text: text.partition(b"\n\n")[0] + b"\n\n",
    ],
)
def test_a_changed_note_is_rejected(change):
    key = note.new_key("k")
    text = change(note.signed(HEAD.text, [key]))
    assert note.opened(text, [key.vkey]) is None
    with pytest.raises(audit.Invalid):
        audit.read_checkpoint(text.decode(), [key.vkey])


def test_a_key_survives_serialisation():
    key = note.new_key("example.com/log")
    assert note.read_key(key.secret).vkey == key.vkey
    for wrong in ("", "PRIVATE+KEY+a+b", key.vkey, key.secret[:-4]):
        with pytest.raises(ConfigurationError):
            note.read_key(wrong)


def test_a_key_is_created_on_first_use_and_readable_only_by_its_owner(tmp_path):
    settings = IntegritySettings(folder=tmp_path / "state")
    (key,) = keys.signing(settings)
    (file,) = (tmp_path / "state/keys").glob("*.key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert [k.vkey for k in keys.signing(settings)] == [key.vkey] == keys.trusted(settings)


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


def test_a_key_folder_inside_the_lake_is_refused(tmp_path):
    lake = Lake(str(tmp_path), None, IntegritySettings(folder=tmp_path / "state"))
    with pytest.raises(ConfigurationError, match="move it out"):
        signer.of(lake, "okta/system_log")


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
