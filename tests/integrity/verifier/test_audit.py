"""The auditor's program against other implementations, published examples and forgeries."""

import json
import sys
import tracemalloc
import zipfile
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.integrity import cosignatures, evidence, note, prove
from pipelines.integrity.evidence import Question
from pipelines.integrity.verifier import audit, proofs
from pipelines.integrity.verifier.proofs import Invalid
from tests.integrity.worlds import NOON


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
    assert "from row 0 all are listed: 700 in the time range, of which 0 are withheld" in output
    assert program(monkeypatch, tmp_path / "pack.zip", "--key", *signed.vkeys()) == 0
    assert {line[:6] for line in capsys.readouterr().out.splitlines()} == {"ok    ", "claim "}


def test_a_pack_is_a_program_that_checks_itself(signed, tmp_path, monkeypatch, capsys):
    span = {"since": NOON - timedelta(days=1), "until": NOON + timedelta(days=9)}
    evidence.pack(signed.lake, Question(query="false", **span), tmp_path / "pack.zip", NOON)
    (key,) = signed.vkeys()
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "pack.zip"), "--key", key])
    assert audit.main() == 0
    assert "of which 700 are withheld" in capsys.readouterr().out


A_DAY = 86_400_000_000
SINCE = 10 * A_DAY


@pytest.mark.parametrize(
    ("first", "arrived", "unlisted"),
    [(2, SINCE - A_DAY - 1, False), (2, SINCE - A_DAY, True), (0, SINCE - A_DAY, False)],
)
def test_rows_before_the_listed_ones_may_be_in_the_range_unless_all_arrived_a_day_before_it(
    first, arrived, unlisted
):
    """No record is accepted more than a day before it happened."""
    lines = [["d", 1, arrived, "poll", "a"], ["d", SINCE, SINCE, "poll", "b"], ["00" * 32]]
    lines += [["d", SINCE + A_DAY, SINCE + A_DAY, "poll", "c"]]
    leaves = [audit._listed(line) for line in lines]
    earlier = [bytes([number]) * 32 for number in range(first)]
    root = proofs.root_of([*earlier, *leaves])
    head = proofs.Checkpoint(origin="x/okta/log/1", size=first + 4, root=root, signer="")
    before = [b64encode(proofs.root_of(earlier)).decode()] if first else []
    listed = map(json.dumps, ({"first": first, "before": before}, *lines))
    span = SINCE, SINCE + A_DAY
    line = audit._check_leaves("\n".join(listed).encode(), head, span, {leaves[0]})
    assert f"from row {first} all are listed: 1 in the time range, of which 1 are with" in line
    assert "; 1 are listed without their time" in line
    assert ("NOT LISTED: 2 earlier rows" in line) is unlisted


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


def archive(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return str(path)


@pytest.mark.parametrize(
    "files", [{"manifest.txt": bytes(2**27)}, {f"{n}": bytes(2**20) for n in range(80)}]
)
def test_a_pack_that_unpacks_to_far_more_than_its_size_is_not_unpacked(tmp_path, files):
    pack = archive(tmp_path / "pack.zip", files)
    tracemalloc.start()
    try:
        for read in (audit.keys_in, lambda path: audit.check_file(path, [])):
            with pytest.raises(Invalid, match="the pack is too large"):
                read(pack)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("padding", "most"), [(0, 2**26), (2**20, None), (2**24, 2**31)], ids=["few", "ratio", "most"]
)
def test_a_pack_may_unpack_to_64_mib_or_200_times_its_size_but_to_2_gib_at_most(
    tmp_path, padding, most
):
    for more in (0, 1):
        with (tmp_path / "pack.zip").open("wb") as file:
            file.seek(padding)
            with zipfile.ZipFile(file, "w") as made:
                made.writestr("keys.txt", b"x")
                size = most or 200 * (padding + 98 + 2 * len("keys.txt") + 1)
                made.filelist[0].file_size = size + more  # as the pack claims
        pack = str(tmp_path / "pack.zip")
        if more:
            with pytest.raises(Invalid, match="the pack is too large"):
                audit.keys_in(pack)
        else:
            assert audit.keys_in(pack) == ["x"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_pack_in_another_compression_is_refused(tmp_path, method):
    pack = archive(tmp_path / "pack.zip", {"manifest.txt": b"x", "keys.txt": b"x"}, method)
    for read in (audit.keys_in, lambda path: audit.check_file(path, [])):
        with pytest.raises(Invalid, match="compressed in an unknown way"):
            read(pack)


def test_a_damaged_pack_is_invalid_and_nothing_else(tmp_path):
    whole = Path(archive(tmp_path / "pack.zip", {"manifest.txt": b"x" * 99, "keys.txt": b"y"}))
    content = whole.read_bytes()
    for at in range(len(content)):
        for changed in (content[:at], content[:at] + b"\xff" + content[at + 1 :]):
            whole.write_bytes(changed)
            with pytest.raises(Invalid):
                audit.check_file(str(whole), [])
            with suppress(Invalid):
                audit.keys_in(str(whole))


def test_a_file_that_does_not_exist_is_reported(tmp_path, monkeypatch, capsys):
    key = note.new_key("auditlake").vkey
    assert program(monkeypatch, tmp_path / "none.json", "--key", key) == 1
    assert "No such file" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["event_id", "time", "ingested_at", "via", "raw"])
@pytest.mark.parametrize("value", [7, None, ["x"], {}, True, "\ud800"])
def test_every_part_of_a_proved_record_is_a_text(signed, proof, part, value):
    odd = {**proof, "record": {**proof["record"], part: value}}
    with pytest.raises(Invalid):
        audit.check_proof(odd, signed.vkeys())


@pytest.mark.parametrize("change", [
    lambda time: time.replace(".000000", ""),
    lambda time: time.replace("Z", "+00:00"),
    lambda time: time.replace("T", " "),
    lambda time: time.replace("-", "").replace(":", ""),
])  # fmt: skip
def test_the_time_of_a_proved_record_has_one_spelling(signed, proof, change):
    time = change(proof["record"]["time"])
    with pytest.raises(Invalid, match="not a time such as"):
        audit.check_proof({**proof, "record": {**proof["record"], "time": time}}, signed.vkeys())


def test_a_quorum_consists_of_witnesses_that_can_reach_it(signed):
    one, two = (cosignatures.new_key(name).vkey for name in ("one", "two"))
    assert audit.quorum_of((), None) is None
    assert audit.quorum_of([one, two], None).least == 2
    assert audit.quorum_of([one, two], 1).least == 1
    for keys, least in (((), 1), ([one], 2), ([one], -1), ([one, one], 1), (signed.vkeys(), 1)):
        with pytest.raises(Invalid):
            audit.quorum_of(keys, least)


def test_the_program_counts_witnesses(signed, proof, tmp_path, monkeypatch, capsys):
    witness = cosignatures.new_key("witness.example/w1")
    text, blank, lines = proof["proof"].rpartition("\n\n")
    head = text.partition("\n\n")[2] + "\n"
    cosigned = f"{lines}{cosignatures.cosign(head, witness, 1_772_366_400)}\n"
    file = tmp_path / "proof.json"
    file.write_text(json.dumps({**proof, "proof": text + blank + cosigned}))
    key, witnesses = ("--key", signed.vkeys()[0]), ("--witness", witness.vkey)
    assert program(monkeypatch, file, *key, *witnesses) == 0
    assert "1 of 1 witnesses have seen it" in capsys.readouterr().out
    assert program(monkeypatch, file, *key, *witnesses, "--quorum", "2") == 1
    other = ("--witness", cosignatures.new_key("other").vkey)
    assert program(monkeypatch, file, *key, *witnesses, *other) == 1
    assert "FAILED" in capsys.readouterr().out
    assert program(monkeypatch, file, *key, *witnesses, *other, "--quorum", "1") == 0
