"""Cosignatures: as C2SP specifies them, and read by two independent readers."""

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import ConfigurationError
from pipelines.integrity import cosignatures
from pipelines.integrity.cosignatures import BadCosignature
from pipelines.integrity.verifier import proofs

KEY = cosignatures.new_key("witness.example/w1")
TEXT = "example.com/log\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_a_cosignature_is_made_as_specified():
    dash, name, encoded = cosignatures.cosign(TEXT, KEY, 1679315147).split(" ")
    blob = b64decode(encoded)
    number = sha256(b"witness.example/w1\n\x04" + KEY.public).digest()[:4]
    assert (dash, name, blob[:12]) == ("\u2014", KEY.name, number + (1679315147).to_bytes(8))
    message = f"cosignature/v1\ntime 1679315147\n{TEXT}".encode()
    Ed25519PublicKey.from_public_bytes(KEY.public).verify(blob[12:], message)
    encoded = b64encode(b"\x04" + KEY.public).decode()
    assert KEY.vkey == f"witness.example/w1+{number.hex()}+{encoded}"


def test_both_readers_find_the_newest_cosignature_of_a_key_and_ignore_others():
    other = cosignatures.new_key("witness.example/w1")
    lines = [cosignatures.cosign(TEXT, *each) for each in ((KEY, 10), (other, 99), (KEY, 30))]
    found = cosignatures.find("\n".join(lines), TEXT, KEY.vkey)
    assert (found.at, found.line) == (30, lines[2])
    note = "\n".join((TEXT, *lines, ""))
    assert proofs.cosigned_at(note, KEY.vkey) == 30
    unknown = cosignatures.new_key("else").vkey
    assert cosignatures.find("\n".join(lines), TEXT, unknown) is None
    assert proofs.cosigned_at(note, unknown) == 0


@given(st.integers(0, 75), st.integers(1, 255))
def test_no_changed_cosignature_is_valid(place, change):
    line = cosignatures.cosign(TEXT, KEY, 1679315147)
    blob = bytearray(b64decode(line.split(" ")[2]))
    blob[place] ^= change
    forged = f"\u2014 {KEY.name} {b64encode(blob).decode()}"
    note = f"{TEXT}\n{forged}\n"
    if place < 4:  # of another key
        assert cosignatures.find(forged, TEXT, KEY.vkey) is None
        assert proofs.cosigned_at(note, KEY.vkey) == 0
        return
    with pytest.raises(BadCosignature):
        cosignatures.find(forged, TEXT, KEY.vkey)
    with pytest.raises(proofs.Invalid):
        proofs.cosigned_at(note, KEY.vkey)


def test_a_cosignature_of_another_checkpoint_or_of_no_time_is_not_valid():
    line = cosignatures.cosign(TEXT, KEY, 1)
    for text, forged in (
        (TEXT.replace("20852163", "20852164"), line),
        (TEXT, cosignatures.cosign(TEXT, KEY, 0)),
        (TEXT, cosignatures.cosign(TEXT, KEY, 253_402_300_800)),
    ):
        with pytest.raises(BadCosignature):
            cosignatures.find(forged, text, KEY.vkey)
        with pytest.raises(proofs.Invalid):
            proofs.cosigned_at(f"{text}\n{forged}\n", KEY.vkey)


def test_a_key_survives_being_written_and_read():
    assert cosignatures.read_key(f"{KEY.secret}\n").vkey == KEY.vkey
    assert "PRIVATE" not in repr(KEY)
    for text in ("", "PRIVATE+KEY+x+00000000+" + "A" * 44, KEY.vkey, KEY.secret[:-4] + "AAAA"):
        with pytest.raises(ConfigurationError):
            cosignatures.read_key(text)
    for name in ("", "a b", "a+b"):
        with pytest.raises(ConfigurationError):
            cosignatures.new_key(name)


def test_the_key_of_a_log_is_not_that_of_a_witness():
    from pipelines.integrity import note

    with pytest.raises(ConfigurationError, match="auditlake witness"):
        cosignatures.find("", TEXT, note.new_key("log").vkey)
    with pytest.raises(proofs.Invalid):
        proofs.cosigned_at(TEXT, note.new_key("log").vkey)


@pytest.mark.parametrize(
    "line", ["\u2014 witness.example/w1 AAAAA", "\u2014 witness.example/w1 =", "x"]
)
def test_lines_that_are_no_signatures_are_ignored(line):
    good = cosignatures.cosign(TEXT, KEY, 5)
    lines = f"{line}\n{good}\n"
    assert cosignatures.find(lines, TEXT, KEY.vkey).at == 5
    assert proofs.cosigned_at(f"{TEXT}\n{lines}", KEY.vkey) == 5
