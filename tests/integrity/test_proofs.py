"""Proofs and evidence packs: valid offline, and invalid after any change."""

import json
import subprocess
import sys
import zipfile
from datetime import timedelta
from hashlib import sha256

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import evidence, keys, note, prove
from pipelines.integrity.verifier import audit
from tests.integrity.worlds import LOG, NOON, Signed

UID = "okta:system_log:id-000417"
QUESTION = evidence.Question(
    query="actor_email = 'u3@x.io'", since=NOON - timedelta(days=1), until=NOON + timedelta(days=9)
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake that tests must not change."""
    return Signed(tmp_path_factory.mktemp("filled")).fill()


def test_a_proof_is_verified_with_only_the_public_key(filled):
    proof = json.loads(json.dumps(prove.prove(filled.lake, UID)))
    head = audit.check_proof(proof, filled.vkeys())
    assert (head.size, proof["record"]["event_id"]) == (700, "id-000417")
    assert prove.prove(filled.lake, "raw/okta/system_log/417") == proof


def changed(document, path, value):
    other = json.loads(json.dumps(document))
    *parents, last = path
    inner = other
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return other


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("record", "raw"), "{}"),
        (("record", "event_id"), "id-000418"),
        (("record", "via"), "webhook"),
        (("record", "via"), "poll\nid-000417"),
        (("record", "time"), "2026-03-02T12:06:57.000001Z"),
        (("record", "time"), "2026-03-02T12:06:57"),
        (("record", "ingested_at"), "2026-03-01T12:00:01.000000Z"),
        (("table",), "raw/okta/other_log"),
    ],
)
def test_a_proof_of_another_record_fails(filled, path, value):
    with pytest.raises(audit.Invalid):
        audit.check_proof(changed(prove.prove(filled.lake, UID), path, value), filled.vkeys())


@given(at=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_proof_with_any_character_changed_fails(filled, at):
    proof = prove.prove(filled.lake, UID)
    place = at.draw(st.integers(0, len(proof["proof"]) - 1))
    letter = at.draw(st.sampled_from("A1b+/=\n —").filter(lambda x: x != proof["proof"][place]))
    text = proof["proof"][:place] + letter + proof["proof"][place + 1 :]
    try:
        head = audit.check_proof({**proof, "proof": text}, filled.vkeys())
    except (audit.Invalid, ValueError):
        return
    # The last base64 character has unused bits, so the proof may still be the same.
    assert head == audit.check_proof(proof, filled.vkeys())


def test_a_proof_signed_with_another_key_fails(filled, tmp_path):
    other = Signed(tmp_path / "other").fill(100)
    with pytest.raises(audit.Invalid, match="not signed by any of the given keys"):
        audit.check_proof(prove.prove(filled.lake, UID), other.vkeys())


def test_missing_events_cannot_be_proved(filled):
    for event in ("okta:system_log:nobody", "raw/okta/system_log/7000", "what", "a:b:c"):
        with pytest.raises(LakeError):
            prove.prove(filled.lake, event)


def test_an_altered_row_cannot_be_proved(signed):
    from tests.integrity import attacks

    attacks.modify(signed)
    with pytest.raises(LakeError, match="auditlake verify"):
        prove.prove(signed.lake, UID)


def test_a_consistency_proof_shows_that_the_log_has_only_grown(signed):
    old = (signed.log / "checkpoint").read_text()
    signed.land(*range(700, 760), day=3)
    proof = prove.prover(signed.lake, LOG.app).growth(old)
    assert audit.check_growth(proof, signed.vkeys()).size == 760
    for path in (proof["path"][1:], [*proof["path"], proof["path"][0]], []):
        with pytest.raises(audit.Invalid):
            audit.check_growth({**proof, "path": path}, signed.vkeys())


@pytest.fixture(scope="module")
def pack(filled, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "evidence.zip"
    evidence.pack(filled.lake, QUESTION, path, NOON)
    return path


def test_a_pack_checks_itself_offline_with_only_python(filled, pack):
    command = [sys.executable, "-I", "-S", str(pack), "--key", filled.vkeys()[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=pack.parent)
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok") for line in lines)
    assert "100 records are in the log auditlake/okta/system_log/" in done.stdout
    wrong = [*command[:-1], note.new_key("auditlake").vkey]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode == 1


def test_a_pack_contains_the_exact_records(filled, pack):
    with zipfile.ZipFile(pack) as held:
        proofs = [json.loads(line) for line in held.read("records.ndjson").splitlines()]
        query = json.loads(held.read("query.json"))
    raws = filled.rows().filter(pl.col("raw").str.contains("u3@x.io", literal=True))["raw"]
    assert [proof["record"]["raw"] for proof in proofs] == raws.to_list()
    assert (query["query"], query["records"]) == (QUESTION.query, 100)


def rewritten(pack, target, change):
    """Return a copy of the pack with some files changed."""
    with zipfile.ZipFile(pack) as old, zipfile.ZipFile(target, "w") as new:
        files = {name: old.read(name) for name in old.namelist()}
        change(files)
        for name, data in files.items():
            new.writestr(name, data)
    return str(target)


def drop_record(files):
    files["records.ndjson"] = files["records.ndjson"].split(b"\n", 1)[1]


def edit_event(files):
    files["events.ndjson"] = files["events.ndjson"].replace(b"success", b"failure", 1)


@pytest.mark.parametrize(
    "change",
    [
        drop_record,
        edit_event,
        lambda files: files.pop("coverage.ndjson"),
        lambda files: files.update({"more.txt": b"x"}),
        lambda files: files.update({"query.json": b"{}"}),
        lambda files: files.update({"manifest.txt": files["checkpoints/okta.system_log.txt"]}),
    ],
)
def test_a_pack_with_any_file_changed_fails(filled, pack, tmp_path, change):
    target = rewritten(pack, tmp_path / "changed.zip", change)
    with pytest.raises((audit.Invalid, KeyError)):
        audit.check_pack(target, filled.vkeys())


def claim(since, until, outcome="complete", stream="system_log"):
    span = {"since": since.isoformat(), "until": until.isoformat(), "outcome": outcome}
    return {"integration": "okta", "stream": stream, **span}


@pytest.mark.parametrize(
    ("claims", "line"),
    [
        ([], "coverage of okta/system_log: GAPS: 2026-02-28 12:00:00 to 2026-03-10 12:00:00"),
        (
            [claim(QUESTION.since, NOON), claim(NOON, QUESTION.until)],
            "coverage of okta/system_log: complete, the whole time range was fetched",
        ),
        (
            [claim(NOON, QUESTION.until), claim(QUESTION.since, NOON, "failed")],
            "coverage of okta/system_log: GAPS: 2026-02-28 12:00:00 to 2026-03-01 12:00:00",
        ),
        (
            [
                claim(NOON, NOON + timedelta(hours=1), "gone"),
                claim(QUESTION.since, QUESTION.until),
            ],
            "coverage of okta/system_log: GAPS: 2026-03-01 12:00:00 to 2026-03-01 13:00:00 UTC",
        ),
        (
            [claim(QUESTION.since, QUESTION.until, stream="other")],
            "coverage of okta/other: complete, the whole time range was fetched",
        ),
    ],
)
def test_a_pack_reports_the_coverage_and_its_gaps(filled, pack, tmp_path, claims, line):
    def change(files):
        files["coverage.ndjson"] = "\n".join(map(json.dumps, claims)).encode()
        listed = "".join(
            f"{sha256(files[name]).hexdigest()}  {name}\n"
            for name in files
            if name != "manifest.txt"
        )
        text = f"{audit.MANIFEST}\n{listed}"
        files["manifest.txt"] = note.signed(text, keys.signing(filled.integrity))

    target = rewritten(pack, tmp_path / "covered.zip", change)
    assert any(proved.startswith(line) for proved in audit.check_pack(target, filled.vkeys()))


def test_a_query_without_matches_gives_a_valid_pack(filled, tmp_path):
    question = evidence.Question(
        query="actor_email = 'nobody'", since=QUESTION.since, until=QUESTION.until
    )
    found = evidence.pack(filled.lake, question, tmp_path / "none.zip", NOON)
    assert found == {"events": 0, "records": 0}
    lines = audit.check_pack(str(tmp_path / "none.zip"), filled.vkeys())
    assert any("had 700 records" in line for line in lines)
    assert "GAPS" in lines[-1]


def test_an_invalid_query_is_reported_in_one_line(filled, tmp_path):
    for query in ("nobody = 1", "DROP TABLE", ""):
        question = evidence.Question(query=query, since=NOON, until=NOON)
        with pytest.raises(AuditlakeError, match="SQL condition") as error:
            evidence.pack(filled.lake, question, tmp_path / "x.zip", NOON)
        assert "\n" not in str(error.value)
