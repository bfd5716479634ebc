"""Signatures, notes, checkpoints and entries: against other implementations and forgeries."""

from contextlib import suppress
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity import cosignatures, merkle, note
from pipelines.integrity.verifier import proofs
from pipelines.integrity.verifier.proofs import Invalid


@given(message=st.binary(max_size=200), seed=st.binary(min_size=32, max_size=32), bit=st.data())
def test_the_auditors_ed25519_agrees_with_cryptography(message, seed, bit):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert proofs.ed25519(public, message, signature)
    flipped = bytearray(signature)
    at = bit.draw(st.integers(0, 511))
    flipped[at // 8] ^= 1 << at % 8
    assert not proofs.ed25519(public, message, bytes(flipped))
    assert not proofs.ed25519(public, message + b"x", signature)


def test_a_signature_is_accepted_in_one_form_only():
    """S and S + L both satisfy the equation; RFC 8032 accepts only the smaller."""
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    signature, order = private.sign(b"m"), 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    other = signature[:32] + scalar.to_bytes(32, "little")
    assert not proofs.ed25519(private.public_key().public_bytes_raw(), b"m", other)


def test_a_signature_and_a_key_have_one_length():
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    public, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    assert proofs.ed25519(public, b"m", signature)
    for key, made in ((public, signature + b"\0"), (public, signature[:-1]), (public[:-1], b"")):
        assert not proofs.ed25519(key, b"m", made)


def test_a_note_signed_by_go_is_accepted():
    """The example in the documentation of golang.org/x/mod/sumdb/note."""
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
        "qdngotpRZb6KE6RyyBwJnAM=\n"
    )
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text, signer = proofs.read_note(note, [key])
    assert (text.count("\n"), signer) == (2, "PeterNeumann+c74f20a3")


def test_a_valid_signature_among_unknown_ones_is_enough():
    ours, other = note.new_key("ours"), note.new_key("other")
    text = note.signed("text\n", [other, ours]).decode()
    assert proofs.read_note(text, [ours.vkey])[1].startswith("ours+")
    assert proofs.read_note(text, [note.new_key("third").vkey, ours.vkey])


def test_an_invalid_signature_of_a_known_key_is_refused_even_beside_a_valid_one():
    one, other = note.new_key("one"), note.new_key("other")
    good, bad = (note.signed(text, [one, other]).decode() for text in ("text\n", "other text\n"))
    mixed = "".join([*good.splitlines(keepends=True)[:-1], bad.splitlines(keepends=True)[-1]])
    assert proofs.read_note(mixed, [one.vkey])
    with pytest.raises(Invalid, match="the signature of other is invalid"):
        proofs.read_note(mixed, [one.vkey, other.vkey])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "text\n\n",
        "text\n\n\u2014 key AAAA",
        "text\n\n- key AAAAAAAA\n",
        "text\n\n\u2014 key name AAAAAAAA\n",
        "text\n\n\u2014 key !!!!\n",
        "text\n\n\u2014 key AAAAAAAA\n",
    ],
)
def test_a_note_without_a_valid_signature_is_refused(text):
    with pytest.raises(Invalid):
        proofs.read_note(text, [note.new_key("key").vkey])


def test_a_note_that_lacks_its_signatures_or_its_last_newline_is_no_signed_note():
    one, other = note.new_key("one"), note.new_key("other")
    whole = note.signed("text\n", [one, other]).decode()
    assert proofs.read_note(whole, [one.vkey])
    for text in ("", "text", "text\n", "text\n\n", whole[:-1], whole.partition("\n\n")[2]):
        with pytest.raises(Invalid, match=r"^not a signed note$"):
            proofs.read_note(text, [one.vkey])


def test_of_a_note_sixteen_signatures_are_read():
    ours, others = note.new_key("ours"), [note.new_key(f"other{n}") for n in range(16)]
    last = note.signed("text\n", [*others[:15], ours]).decode()
    assert proofs.read_note(last, [ours.vkey])[1].startswith("ours+")
    with pytest.raises(Invalid, match="not signed by any"):
        proofs.read_note(note.signed("text\n", [*others, ours]).decode(), [ours.vkey])


def test_a_cosignature_counts_for_its_own_key_and_the_newest_of_several():
    one, same_name = (cosignatures.new_key("witness.example/w1") for _ in range(2))
    text = f"a/b\n7\n{ROOT}\n"
    made = [cosignatures.cosign(text, *each) for each in ((one, 30), (one, 10), (same_name, 99))]
    cosigned = "\n".join((text, *made, ""))
    assert proofs.cosigned_at(cosigned, one.vkey) == 30
    assert proofs.cosigned_at(cosigned, same_name.vkey) == 99
    assert proofs.cosigned_at(cosigned, cosignatures.new_key("else").vkey) == 0
    with pytest.raises(Invalid, match="the cosignature of witness"):
        proofs.cosigned_at(cosigned.replace("\n7\n", "\n8\n"), one.vkey)
    with pytest.raises(Invalid, match="not a verifier key"):
        proofs.cosigned_at(cosigned, note.new_key("auditlake").vkey)


@pytest.mark.parametrize("change", [str.upper, lambda key: key[:-4], lambda key: f"x{key}",
                                    lambda key: key.replace("+", "-"), lambda key: ""])  # fmt: skip
def test_a_malformed_public_key_is_refused(change):
    with pytest.raises(Invalid, match="not a verifier key"):
        proofs.read_note("text\n\n\u2014 key AAAAAAAA\n", [change(note.new_key("key").vkey)])


ROOT = "A" * 43 + "="


@pytest.mark.parametrize(
    "text",
    [
        f"a/b\n007\n{ROOT}\n",
        f"a/b\n-1\n{ROOT}\n",
        f"a/b\n1.0\n{ROOT}\n",
        f"a/b\n\u0661\n{ROOT}\n",
        f"\n1\n{ROOT}\n",
        f"a/b\n1\n{ROOT}",
        f"a/b\n1\n{ROOT}\nmore\n",
        "a/b\n1\nAAAA\n",
        "",
    ],
)
def test_a_checkpoint_has_one_spelling(text):
    assert proofs.checkpoint_in(f"a/b\n7\n{ROOT}\n").size == 7
    with pytest.raises(Invalid, match="not a checkpoint"):
        proofs.checkpoint_in(text)


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_an_index_outside_the_log_is_refused(index):
    with pytest.raises(Invalid, match="outside a log of size 5"):
        proofs.included(b"l" * 32, index, 5, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2026-03-01T12:00:00.500000Z", 1_772_366_400_500_000),
    ],
)
def test_times_are_exact_to_the_microsecond(text, expected):
    assert proofs.microseconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T12:00:00",
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:00.5Z",
        "2026-03-01T13:00:00.500000+01:00",
        "2026-03-01 12:00:00.500000Z",
        "20260301T120000.500000Z",
        "2026-W09-7T12:00:00.500000Z",
        "2026-03-01T12:00:00,500000Z",
        "2026-03-01T12:00:00.500000Z\n",
        "2026-03-01T12:00:00.50000\u0660Z",
        "2026-02-30T12:00:00.500000Z",
        "2026-03-01T24:00:00.000000Z",
    ],
)
def test_a_time_has_one_spelling(text):
    with pytest.raises(Invalid, match="not a time such as"):
        proofs.microseconds(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        (b'"\xff"', "not JSON"),
        ('"x"'.encode("utf-16"), "not JSON"),
        ("9" * 5_000, "not JSON"),
        ('{"a": 1, "a": 1}', "key twice"),
        ('[{"b": {"a": 1, "a": 2}}]', "key twice"),
        ("[NaN]", "NaN is not JSON"),
        ("-Infinity", "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_readers_may_take_differently_is_refused(text, reason):
    with pytest.raises(Invalid, match=reason):
        proofs.parsed(text)


@pytest.mark.parametrize("size", ["01", "-1", "\u0663", "9223372036854775808", "9" * 5_000])
def test_a_checkpoint_has_a_size_that_a_log_can_have(size):
    root = "A" * 43 + "="
    assert proofs.checkpoint_in(f"x\n9223372036854775807\n{root}\n").size == 2**63 - 1
    with pytest.raises(Invalid, match="not a checkpoint"):
        proofs.checkpoint_in(f"x\n{size}\n{root}\n")


def spare_bits(signature):
    """Return the same bytes in base64 with the unused bits of the last letter set."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stem = signature.rstrip("=")
    return stem[:-1] + letters[letters.index(stem[-1]) | 1] + signature[len(stem) :]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("=", ""),
        lambda text: text + "=",
        lambda text: text[:-3] + "==",
        spare_bits,
    ],
)
def test_a_signature_has_one_spelling(change):
    key = note.new_key("auditlake")
    signed = note.signed("some text\n", [key]).decode()
    assert proofs.read_note(signed, [key.vkey])[0] == "some text\n"
    start, _, signature = signed.rstrip("\n").rpartition(" ")
    with pytest.raises(Invalid, match=r"base64|malformed signature"):
        proofs.read_note(f"{start} {change(signature)}\n", [key.vkey])


def test_half_a_character_is_refused():
    key = note.new_key("auditlake")
    signed = note.signed("some text\n", [key]).decode()
    with pytest.raises(Invalid, match="half a character"):
        proofs.read_note("\ud800" + signed, [key.vkey])
    with pytest.raises(Invalid, match="half a character"):
        proofs.read_note(signed, ["\udc80" + key.vkey])
    with pytest.raises(Invalid, match="half a character"):
        proofs.entry({**RECORD, "event_id": "\ud800"})


NOON = "2026-03-01T12:00:00.000000Z"
RECORD = {"event_id": "1", "time": NOON, "ingested_at": NOON, "via": "poll", "raw": "{}"}


def test_an_entry_of_more_than_65535_bytes_is_replaced_by_its_hash():
    assert proofs.bounded("x" * 65_535) == b"x" * 65_535
    longer = "x" * 65_534 + "\u00e9"
    digest = sha256(longer.encode()).hexdigest()
    assert proofs.bounded(longer) == f"auditlake/1 long\n{digest}".encode()


def test_no_two_records_have_the_same_entry():
    """Only the last part may contain newlines, so the parts cannot be shifted."""
    shifted = {**RECORD, "via": "poll\n1", "event_id": ""}
    with pytest.raises(Invalid, match="newline"):
        proofs.entry(shifted)
    changes = {"event_id": "1\n", "time": "2026-03-01T12:00:00.000001Z", "via": "", "raw": "{} "}
    entries = {proofs.entry({**RECORD, name: value}) for name, value in changes.items()}
    assert len(entries | {proofs.entry(RECORD)}) == len(changes) + 1


LEAVES = [bytes([number]) * 32 for number in range(20)]


def test_leaves_and_nodes_are_hashed_as_in_rfc_6962():
    assert proofs.leaf_hash(b"entry") == sha256(b"\0entry").digest()
    assert proofs.node_hash(b"left", b"right") == sha256(b"\1leftright").digest()
    assert proofs.root_of(()) == sha256(b"").digest()
    assert proofs.root_of(LEAVES[:2]) == proofs.node_hash(*LEAVES[:2])
    three = proofs.node_hash(proofs.node_hash(*LEAVES[:2]), LEAVES[2])
    assert proofs.root_of(LEAVES[:3]) == three


def subtree(first, until):
    return proofs.root_of(LEAVES[first:until])


def test_a_leaf_is_included_by_its_own_path_and_no_other():
    for size in range(1, 20):
        paths = [merkle.inclusion(index, 0, size, subtree) for index in range(size)]
        for index, path in enumerate(paths):
            root = subtree(0, size)
            assert proofs.included(LEAVES[index], index, size, path) == root
            for odd in (path[:-1], [*path, LEAVES[0]], path[::-1]):
                if odd != path:
                    assert_not_included(index, size, odd, root)
            for other in {0, index - 1, index + 1, size - 1} - {index, -1, size}:
                assert_not_included(index, size, paths[other], root)


def assert_not_included(index, size, path, root):
    with suppress(Invalid):
        assert proofs.included(LEAVES[index], index, size, path) != root


def checkpoint(size, root=None):
    return proofs.Checkpoint(origin="x", size=size, root=root or subtree(0, size), signer="")


def test_a_log_extends_each_of_its_beginnings_and_no_other():
    for until in range(1, 20):
        for old in range(1, until):
            path = merkle.consistency(old, 0, until, subtree)
            proofs.check_consistency(checkpoint(old), checkpoint(until), path)
            for odd in (path[:-1], [*path, LEAVES[0]], [*path[:-1], LEAVES[0]]):
                with pytest.raises(Invalid):
                    proofs.check_consistency(checkpoint(old), checkpoint(until), odd)
            for forged in (checkpoint(old, b"r" * 32), checkpoint(old + 1, subtree(0, old))):
                with pytest.raises(Invalid):
                    proofs.check_consistency(forged, checkpoint(until), path)
        with pytest.raises(Invalid):
            proofs.check_consistency(checkpoint(until + 1, b"r" * 32), checkpoint(until), [])


def test_the_peaks_of_a_log_and_all_later_leaves_give_its_root():
    for size in range(20):
        peaks = merkle.peaks(size, subtree)
        for until in range(size, 20):
            assert proofs.extended(size, peaks, LEAVES[size:until]) == subtree(0, until)
    with pytest.raises(Invalid, match="wrong length"):
        proofs.extended(1, [b"short"], [])
    with pytest.raises(Invalid, match="wrong length"):
        proofs.extended(0, [], [b"short"])
