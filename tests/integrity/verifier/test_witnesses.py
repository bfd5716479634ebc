"""`verify` counts the witnesses, and finds what they have seen and the lake does not show."""

import json
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.errors import ConfigurationError
from pipelines.integrity import cosignatures, note, operator_acts, reports, witnesses
from pipelines.integrity.verifier import table_reader, verify
from pipelines.integrity.verifier import witnesses as counted
from pipelines.integrity.verifier.job import Job, WorkerPool
from pipelines.integrity.witness.state import name_of
from pipelines.settings import NetworkSettings, Witness
from tests.integrity import attacks, matrix, witnessing
from tests.integrity.witnessing import AT, answering, background, serving, submitted, witnessed
from tests.integrity.worlds import LOG, NOON, Signed, once
from tests.waiting import free_ports

NAME = "witness.example/w1"


@pytest.fixture(autouse=True)
def _none_is_paused(monkeypatch):
    monkeypatch.setattr(witnesses, "_paused", {})
    monkeypatch.setattr(counted, "_unreachable", {})


@pytest.fixture
def witness(signed, tmp_path):
    """The real witness, which has cosigned the checkpoint of the lake `signed`."""
    with serving(tmp_path / "seen", signed.vkeys()) as chosen:
        witnessed(signed, chosen)
        assert submitted(signed) == []
        yield chosen


@contextmanager
def several(signed, folder, count):
    """Run that many witnesses, which have cosigned nothing yet."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(folder / str(n), signed.vkeys(), name=f"witness/{n}"))
            for n in range(count)
        ]


def kinds(verdict):
    return [found.kind for found in verdict.findings]


def test_all_witnesses_have_seen_all_rows(signed, tmp_path):
    with several(signed, tmp_path, 3) as chosen:
        witnessed(signed, *chosen)
        submitted(signed)
        verdict = signed.verify()
    assert verdict.ok
    line = reports.line(verdict)
    assert "3 of 3 witnesses have seen 700 rows at 2026-03-01 12:00:00 UTC" in line
    assert reports.document(verdict)["cosigned"]["witness/1"]["rows"] == 700


def test_with_keys_alone_an_auditor_counts_the_cosignatures_in_the_lake(signed, witness):
    signed.settings = {}
    place = reports.place(signed.lake, signed.integrity, (), [witness.key])
    verdict = verified(signed, place)
    assert verdict.ok
    assert verdict.witnessed.startswith("1 of 1 witnesses have seen 700 rows")
    other = cosignatures.new_key(NAME).vkey
    verdict = verified(signed, replace(place, witnesses=[other]))
    assert kinds(verdict) == ["unwitnessed"]


def verified(signed, place):
    with WorkerPool(1) as crew:
        return verify.verify(Job(place=place, table=LOG.table, kind="okta"), crew)


def test_fewer_than_the_quorum_are_a_finding_after_an_hour(signed, tmp_path):
    """The checkpoints of these tests were signed long ago."""
    with several(signed, tmp_path, 2) as chosen:
        witnessed(signed, *chosen, Witness(url="http://127.0.0.1:9", key=witness_key()))
        assert len(submitted(signed)) == 1
        verdict = signed.verify()
        assert kinds(verdict) == ["unwitnessed"]
        assert "2 of 3 witnesses have cosigned it; 3 must have seen the 700 rows" in (
            reports.line(verdict)
        )
        assert any(note.startswith(f"the witness {NAME}: does not") for note in verdict.notes)
        assert witnessed(signed, *signed.settings["witnesses"], quorum=2).verify().ok


def witness_key():
    return cosignatures.new_key(NAME).vkey


def test_rows_that_were_just_signed_need_no_witness_yet(signed, witness):
    witnessed(signed).land(*range(700, 760), day=3)
    witnessed(signed, witness)
    assert kinds(signed.verify()) == ["unwitnessed"]
    for age, found in ((timedelta(minutes=59), []), (timedelta(minutes=61), ["unwitnessed"]),
                       (timedelta(minutes=-61), ["unwitnessed"])):  # fmt: skip
        date_history(signed, datetime.now(UTC) - age)
        verdict = signed.verify()
        assert kinds(verdict) == found
        assert "1 of 1 witnesses have seen 700 rows" in verdict.witnessed
    shutil.rmtree(signed.log / "history")
    assert kinds(signed.verify()) == ["unwitnessed"]
    submitted(signed)
    assert signed.verify().ok


def date_history(signed, time):
    """Change when the newest checkpoint was signed."""
    (file,) = (signed.log / "history").iterdir()
    *earlier, last = file.read_text().splitlines()
    last = json.dumps({**json.loads(last), "at": time.isoformat()})
    file.write_text("\n".join((*earlier, last, "")))


def test_a_missing_witness_does_not_make_every_run_a_full_one(signed, witness):
    signed.verify()
    witnessed(signed).land(*range(700, 900), day=3)
    witnessed(signed, witness)
    assert signed.verify().first == 512
    verdict = signed.verify()
    assert kinds(verdict) == ["unwitnessed"]
    assert verdict.first == 768
    assert verdict.cosigned[NAME].rows == 700


@matrix.attack("show another view of the log, signed with its key", "REWRITTEN", matrix.WITNESS)
@pytest.mark.parametrize("verified_before", [False, True])
def test_a_split_view_is_found_by_the_witness_and_by_verify(
    signed, witness, tmp_path, verified_before
):
    """The copy has other rows than those the witness has seen under the same name."""
    copy = Signed(tmp_path / "copy", signed.settings)
    shutil.copytree(signed.folder, copy.folder)
    shutil.rmtree(copy.folder / "state" / "lakes")
    witnessed(copy).land(*range(5000, 5400), day=3)
    if verified_before:
        assert copy.verify().ok
    signed.land(*range(700, 750), day=3)
    background()
    witnessed(copy, witness)
    assert "422" in submitted(copy)[0]
    finding = copy.verify().first_bad
    assert finding.kind == "rewritten"
    assert f"covered by the witness {NAME}" in finding.detail
    assert signed.verify().ok


@matrix.attack(
    "roll back the lake, with its cosignatures and all local records",
    "ROLLED BACK",
    matrix.WITNESS,
)
def test_a_witness_reveals_a_rollback(signed, witness):
    shutil.copytree(signed.folder / "lake", signed.folder / "copy")
    signed.land(*range(700, 750), day=3)
    background()
    shutil.rmtree(signed.folder / "lake")
    (signed.folder / "copy").rename(signed.folder / "lake")
    shutil.rmtree(signed.place.memory)
    finding = signed.verify().first_bad
    assert finding.kind == "rolled back"
    assert f"the witness {NAME} covers 750 rows, the lake's 700" in finding.detail


@matrix.attack("remove the signed log that a witness has seen", "CHECKPOINT", matrix.WITNESS)
def test_a_cosignature_reveals_that_the_checkpoint_is_missing(signed, witness):
    shutil.rmtree(signed.place.memory)
    shutil.rmtree(signed.log / "history")
    (signed.log / "checkpoint").unlink()
    details = [found.detail for found in signed.verify().findings]
    assert any(f"the witness {NAME} covers 700 rows" in detail for detail in details)


@matrix.attack("forge or alter a cosignature", "COSIGNATURE", matrix.WITNESS)
def test_a_cosignature_that_does_not_verify_is_a_finding(signed, witness):
    file = signed.log / counted.path(witness.key)
    good = file.read_text()
    other = cosignatures.new_key(NAME)
    text = good.rpartition("\n\n")[0] + "\n"
    for forged in (
        good.replace("\n700\n", "\n701\n"),
        "\n".join((text, cosignatures.cosign(text, other, AT), "")),
        witnessing.note_of(signed).decode(),
        "",
    ):
        file.write_text(forged)
        assert "cosignature" in kinds(signed.verify())
    file.write_text(good)
    assert signed.verify().ok


@matrix.attack("hide the cosignatures", "UNWITNESSED", matrix.WITNESS)
def test_cosignatures_that_were_removed_are_missed(signed, witness):
    shutil.rmtree(signed.log / "cosignatures")
    assert signed.verify().ok  # the witness itself shows what it cosigned
    place = reports.place(signed.lake, signed.integrity, (), [witness.key])
    assert kinds(verified(signed, place)) == ["unwitnessed"]


@pytest.mark.parametrize(
    ("module", "name"), [(verify, "_newest_head"), (table_reader, "read"), (counted, "_fetched")]
)
def test_a_round_cosigned_during_a_verification_is_no_rollback(
    signed, witness, monkeypatch, module, name
):
    monkeypatch.setattr(counted, "_DELAY", timedelta(days=36_500))  # of the times in these tests

    def another():
        signed.land(*range(700, 750), day=3)
        background()

    once(monkeypatch, module, name, another)
    report = signed.verify(events=False)
    assert report.ok, report.findings


def test_rows_are_compared_with_what_the_witness_has_seen(signed, witness):
    attacks.modify(signed)
    assert "changed" in kinds(signed.verify())


def test_acts_are_counted_and_compared_too(signed, witness):
    operator_acts.record(signed.lake, {"act": "test"}, NOON)
    background()
    verdict = verify.verify_acts(signed.place)
    assert verdict.ok
    assert verdict.witnessed.startswith("1 of 1 witnesses have seen 1 rows")
    shutil.copytree(signed.folder / "lake", signed.folder / "copy")
    operator_acts.record(signed.lake, {"act": "more"}, NOON)
    background()
    shutil.rmtree(signed.folder / "lake")
    (signed.folder / "copy").rename(signed.folder / "lake")
    shutil.rmtree(signed.place.memory)
    (finding,) = verify.verify_acts(signed.place).findings
    assert finding.kind == "rolled back"
    assert NAME in finding.detail


def shown(text, key, at=AT):
    return f"{text}\n{cosignatures.cosign(text, key, at)}\n".encode()


def test_a_lying_witness_accuses_nobody(signed, witness):
    """It has no signature of the log for what it claims to have seen."""
    key = cosignatures.new_key("liar")
    head = note.opened(witnessing.note_of(signed), signed.vkeys())
    for lie in (replace(head, size=900), replace(head, root=bytes(32))):
        with answering((200, "text/plain", shown(lie.text, key))) as server:
            liar = Witness(url=server.address, key=key.vkey)
            verdict = witnessed(signed, liar, witness, quorum=1).verify()
        assert verdict.ok, lie
        assert list(verdict.cosigned) == [NAME]


def test_an_answer_that_is_no_cosigned_checkpoint_does_not_count(signed):
    key = cosignatures.new_key("liar")
    head = note.opened(witnessing.note_of(signed), signed.vkeys())
    lies = (
        *(b"\xff", b"", witnessing.note_of(signed)),
        shown(head.text, key) + b"too large\n" * 2000,
        shown(head.text, cosignatures.new_key("liar")),
        shown(head.text, key, 2**62),
        shown(head.text.replace("\n700\n", f"\n{'9' * 5000}\n"), key),
        f"{head.text}\n\u2014 liar AAAAA\n".encode(),
    )
    for lie in lies:
        with answering((200, "text/plain", lie)) as server:
            liar = Witness(url=server.address, key=key.vkey)
            (seen,) = counted._shown_by(liar, head.origin, NetworkSettings())
        assert seen.reason.startswith("its answer does not count"), lie


def test_a_witness_without_an_answer_is_tried_once(signed):
    (port,) = free_ports(1)
    away = Witness(url=f"http://127.0.0.1:{port}", key=witness_key())
    place = witnessed(signed, away).place
    origin = note.opened(witnessing.note_of(signed), signed.vkeys()).origin
    first, second = (list(counted._shown_by(away, origin, NetworkSettings())) for _ in range(2))
    assert "ConnectError" in first[0].reason
    assert second[0].reason == "does not answer"
    assert place.quorum == 1


def test_a_witness_is_read_by_the_hash_of_the_origin(signed, witness):
    origin = note.opened(witnessing.note_of(signed), signed.vkeys()).origin
    (seen,) = counted._shown_by(witness, origin, NetworkSettings())
    assert (seen.head.size, seen.cosigned_at, seen.head.origin) == (700, AT, origin)
    assert list(counted._shown_by(witness, "unknown", NetworkSettings())) == []
    assert len(name_of(origin)) == 64


def test_keys_and_quorums_that_cannot_be_used_are_refused(signed):
    one, two = witness_key(), witness_key()
    for keys, quorum, reason in (
        (["x"], None, "not a verifier key"),
        (signed.vkeys(), None, "not a verifier key"),
        ([one, two], None, "same name"),
        ([one], 2, "2 of 1"),
        ([], 1, "1 of 0"),
    ):
        with pytest.raises(ConfigurationError, match=reason):
            reports.place(signed.lake, signed.integrity, (), keys, quorum)
