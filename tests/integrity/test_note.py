"""Signed notes: read by signer and auditor alike, and rejected after any change."""

import pytest

from pipelines.errors import ConfigurationError
from pipelines.integrity import note
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import proofs

HEAD = Head(origin="auditlake/okta/system_log/1", size=7, root=b"r" * 32)


def test_signer_and_auditor_read_the_same_note():
    key = note.new_key("example.com/log")
    text = note.signed(HEAD.text, [key])
    assert note.opened(text, [key.vkey]) == HEAD
    head = proofs.read_checkpoint(text.decode(), [key.vkey])
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
    with pytest.raises(proofs.Invalid):
        proofs.read_checkpoint(text.decode(), [key.vkey])


def test_a_key_survives_serialisation():
    key = note.new_key("example.com/log")
    assert note.read_key(key.secret).vkey == key.vkey
    for wrong in ("", "PRIVATE+KEY+a+b", key.vkey, key.secret[:-4]):
        with pytest.raises(ConfigurationError):
            note.read_key(wrong)
