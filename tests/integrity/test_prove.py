"""Proofs: valid offline with only the public key, and invalid after any change."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import LakeError
from pipelines.integrity import prove, witnesses
from pipelines.integrity.verifier import audit, proofs
from tests.integrity.witnessing import note_of, serving, submitted, witnessed
from tests.integrity.worlds import LOG, Signed

UID = "okta:system_log:id-000417"


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
    with pytest.raises(proofs.Invalid):
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
    except (proofs.Invalid, ValueError):
        return
    # The last base64 character has unused bits, so the proof may still be the same.
    assert head == audit.check_proof(proof, filled.vkeys())


def test_a_proof_signed_with_another_key_fails(filled, tmp_path):
    other = Signed(tmp_path / "other").fill(100)
    with pytest.raises(proofs.Invalid, match="not signed by any of the given keys"):
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
        with pytest.raises(proofs.Invalid):
            audit.check_growth({**proof, "path": path}, signed.vkeys())


def test_a_proof_contains_the_cosignatures_of_its_checkpoint(signed, tmp_path):
    with serving(tmp_path / "seen", signed.vkeys()) as witness:
        submitted(witnessed(signed, witness))
    quorum, file = audit.quorum_of([witness.key], None), tmp_path / "proof.json"
    for number in (417, 418):
        file.write_text(json.dumps(prove.prove(signed.lake, f"raw/okta/system_log/{number}")))
        *_, seen = audit.check_file(str(file), signed.vkeys(), quorum)
        assert "1 of 1 witnesses have seen it, 1 of them 700 of its 700 records" in seen
    (signed.log / witnesses.path(witness)).write_text("\n\n\u2014 forged\n" * 20)
    assert prove.prove(signed.lake, UID)  # the lake's files cannot make proofs fail
    kept = note_of(signed).decode()
    witnessed(signed).land(*range(700, 750), day=3)
    file.write_text(json.dumps(prove.prover(signed.lake, LOG.app).growth(kept)))
    assert len(audit.check_file(str(file), signed.vkeys())) == 1
    with pytest.raises(proofs.Invalid, match="0 of 1 witnesses have cosigned"):
        audit.check_file(str(file), signed.vkeys(), quorum)
