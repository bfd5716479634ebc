"""The auditor's program against other implementations, published examples and forgeries."""

import json
import sys
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity import evidence, note, prove
from pipelines.integrity.evidence import Question
from pipelines.integrity.verifier import audit
from pipelines.integrity.verifier.audit import Invalid
from tests.integrity.worlds import NOON


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


def test_a_note_signed_by_go_is_accepted():
    """The example in the documentation of golang.org/x/mod/sumdb/note."""
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
        "qdngotpRZb6KE6RyyBwJnAM=\n"
    )
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text, signer = audit.read_note(note, [key])
    assert (text.count("\n"), signer) == (2, "PeterNeumann+c74f20a3")


def test_a_valid_signature_among_unknown_ones_is_enough():
    ours, other = note.new_key("ours"), note.new_key("other")
    text = note.signed("text\n", [other, ours]).decode()
    assert audit.read_note(text, [ours.vkey])[1].startswith("ours+")
    assert audit.read_note(text, [note.new_key("third").vkey, ours.vkey])


def test_an_invalid_signature_of_a_known_key_is_refused_even_beside_a_valid_one():
    one, other = note.new_key("one"), note.new_key("other")
    good, bad = (note.signed(text, [one, other]).decode() for text in ("text\n", "other text\n"))
    mixed = "".join([*good.splitlines(keepends=True)[:-1], bad.splitlines(keepends=True)[-1]])
    assert audit.read_note(mixed, [one.vkey])
    with pytest.raises(Invalid, match="the signature of other is invalid"):
        audit.read_note(mixed, [one.vkey, other.vkey])


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
        audit.read_note(text, [note.new_key("key").vkey])


@pytest.mark.parametrize("change", [str.upper, lambda key: key[:-4], lambda key: f"x{key}",
                                    lambda key: key.replace("+", "-"), lambda key: ""])  # fmt: skip
def test_a_malformed_public_key_is_refused(change):
    with pytest.raises(Invalid, match="not a verifier key"):
        audit.read_note("text\n\n\u2014 key AAAAAAAA\n", [change(note.new_key("key").vkey)])


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
    assert audit.checkpoint_in(f"a/b\n7\n{ROOT}\n").size == 7
    with pytest.raises(Invalid, match="not a checkpoint"):
        audit.checkpoint_in(text)


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_an_index_outside_the_log_is_refused(index):
    with pytest.raises(Invalid, match="outside a log of size 5"):
        audit.included(b"l" * 32, index, 5, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2026-03-01T13:00:00.5+01:00", 1_772_366_400_500_000),
        ("2026-03-01T12:00:00.5Z", 1_772_366_400_500_000),
    ],
)
def test_times_are_exact_to_the_microsecond(text, expected):
    assert audit.microseconds(text) == expected


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(Invalid, match="without a time zone"):
        audit.microseconds("2026-03-01T12:00:00")


RECORD = {"event_id": "1", "time": "2026-03-01T12:00:00Z", "ingested_at": "2026-03-01T12:00:00Z",
          "via": "poll", "raw": "{}"}  # fmt: skip


def test_no_two_records_have_the_same_entry():
    """Only the last part may contain newlines, so the parts cannot be shifted."""
    shifted = {**RECORD, "via": "poll\n1", "event_id": ""}
    with pytest.raises(Invalid, match="newline"):
        audit.entry(shifted)
    changes = {"event_id": "1\n", "time": "2026-03-01T12:00:00.000001Z", "via": "", "raw": "{} "}
    entries = {audit.entry({**RECORD, name: value}) for name, value in changes.items()}
    assert len(entries | {audit.entry(RECORD)}) == len(changes) + 1


def test_a_file_that_is_neither_proof_nor_pack_is_refused(tmp_path):
    file = tmp_path / "file.json"
    for text in ("{}", '{"what": "auditlake proof 2"}'):
        file.write_text(text)
        with pytest.raises(Invalid, match="neither a proof, an evidence pack nor a certificate"):
            audit.check_file(str(file), [])
    assert audit.keys_in(str(file)) == []


def program(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["audit.py", *map(str, arguments)])
    return audit.main()


@pytest.fixture
def proof(signed):
    return prove.prove(signed.lake, "raw/okta/system_log/417")


def test_the_program_reports_a_proof_that_holds(signed, proof, tmp_path, monkeypatch, capsys):
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    assert program(monkeypatch, tmp_path / "proof.json", "--key", *signed.vkeys()) == 0
    assert "ok    raw/okta/system_log id-000417" in capsys.readouterr().out


def test_the_program_fails_on_any_other_file(signed, proof, tmp_path, monkeypatch, capsys):
    file = tmp_path / "proof.json"
    odd = [{**proof, name: value} for name in proof for value in (None, 7, [], {}, "x")]
    for content in ("{", "\0", "", *map(json.dumps, ([], 7, *odd))):
        file.write_text(content)
        assert program(monkeypatch, file, "--key", *signed.vkeys()) == 1, content
        assert capsys.readouterr().out.startswith(f"FAILED {file}: ")


def with_path(proof, change):
    head, _, note = proof["proof"].partition("\n\n")
    return {**proof, "proof": "\n".join(change(head.split("\n"))) + "\n\n" + note}


def with_index(proof, index):
    return with_path(proof, lambda head: [head[0], index, *head[2:]])


def spare_bits(line):
    """Return the same hash in base64 with its unused bits set."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return line[:42] + letters[letters.index(line[42]) + 1] + "="


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: {**proof, "note": ""},
        lambda proof: {**proof, "record": {**proof["record"], "seq": 418}},
        lambda proof: {**proof, "table": "okta/system_log"},
        lambda proof: {**proof, "table": "raw/raw/okta/system_log"},
        lambda proof: {**proof, "table": "raw/system_log"},
        lambda proof: {**proof, "table": "raw/okta/system_log/"},
        lambda proof: {**proof, "table": "raw/okta/system_log\n"},
        lambda proof: with_index(proof, "index 0417"),
        lambda proof: with_index(proof, "index \u0664\u0661\u0667"),
        lambda proof: with_index(proof, "index 4_17"),
        lambda proof: with_path(proof, lambda head: [*head[:2], spare_bits(head[2]), *head[3:]]),
    ],
)
def test_a_proof_has_one_spelling(signed, proof, change):
    audit.check_proof(proof, signed.vkeys())
    with pytest.raises(Invalid):
        audit.check_proof(change(proof), signed.vkeys())


def test_a_key_that_occurs_twice_is_refused(signed, proof, tmp_path):
    text = json.dumps(proof)
    for twice in ('"table": "raw/okta/other", ', '"what": "auditlake proof 1", '):
        (tmp_path / "proof.json").write_text("{" + twice + text[1:])
        with pytest.raises(Invalid, match="key twice"):
            audit.check_file(str(tmp_path / "proof.json"), signed.vkeys())


def test_without_a_published_key_nothing_is_called_proved(
    signed, proof, tmp_path, monkeypatch, capsys
):
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    with pytest.raises(SystemExit) as ended:
        program(monkeypatch, tmp_path / "proof.json")
    assert ended.value.code == 2
    assert "published key" in capsys.readouterr().err
    span = {"since": NOON - timedelta(days=1), "until": NOON + timedelta(days=9)}
    evidence.pack(signed.lake, Question(query="true", **span), tmp_path / "pack.zip", NOON)
    assert program(monkeypatch, tmp_path / "pack.zip") == 2
    output = capsys.readouterr().out
    assert "ok" not in [line.split()[0] for line in output.splitlines()]
    assert "Nothing is proved yet" in output
    assert program(monkeypatch, tmp_path / "pack.zip", "--key", *signed.vkeys()) == 0
    assert {line[:6] for line in capsys.readouterr().out.splitlines()} == {"ok    ", "claim "}


def test_nothing_in_a_file_can_forge_a_line_or_hide(tmp_path, monkeypatch, capsys):
    name = "x\nok    raw/okta/system_log FORGED \x1b[2K\u202e\u0430"
    for document in ({"what": audit.PROOF, name: 1}, {"what": audit.PROOF, "table": name}):
        (tmp_path / "proof.json").write_text(json.dumps(document))
        key = note.new_key("auditlake").vkey
        assert program(monkeypatch, tmp_path / "proof.json", "--key", key) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("FAILED ")
        assert line.isascii()
        assert line.isprintable()


SPAN = ("2026-03-01T00:00:00+00:00", "2026-03-02T00:00:00+00:00")


def fetched(*hours, outcome="complete"):
    log, day = {"integration": "okta", "stream": "log", "outcome": outcome}, "2026-03-01T"
    return [
        {**log, "since": f"{day}{first:02}:00:00Z", "until": f"{day}{last:02}:00:00Z"}
        for first, last in hours
    ]


@pytest.mark.parametrize(
    ("rows", "gaps"),
    [
        (fetched((0, 12), (6, 18)), ["18:00:00 to 2026-03-02 00:00:00"]),
        (fetched((12, 18), (0, 6)), ["06:00:00 to 2026-03-01 12", "18:00:00 to 2026-03-02"]),
        (fetched((0, 23), outcome="wanted"), ["00:00:00 to 2026-03-02 00"]),
        (fetched((1, 2), (3, 4), (5, 6), (7, 8)), ["00:00:00 to 2026-03-01 01", "2 more spans"]),
    ],
)
def test_every_part_of_the_time_range_that_was_not_fetched_is_reported(rows, gaps):
    (line,) = audit._coverage(["okta/log"], SPAN, rows)
    assert line.startswith("coverage of okta/log: GAPS: ")
    assert [gap for gap in gaps if gap not in line] == []
