"""Every checkpoint is submitted to witnesses, which never hold up a round."""

import shutil
import threading
import time
from datetime import timedelta

import pytest

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import cosignatures, note, operator_acts, signer, witnesses
from pipelines.settings import Witness
from tests.integrity import witnessing
from tests.integrity.witnessing import AT, answering, background, serving, submitted, witnessed
from tests.integrity.worlds import LOG, NOON, Signed
from tests.waiting import free_ports

KEY = cosignatures.new_key("witness.example/w1")


@pytest.fixture
def witness(signed, tmp_path):
    """The real witness of the lake `signed`, which has cosigned nothing yet."""
    with serving(tmp_path / "seen", signed.vkeys()) as chosen:
        witnessed(signed, chosen)
        yield chosen


@pytest.fixture(autouse=True)
def _none_is_paused(monkeypatch):
    monkeypatch.setattr(witnesses, "_paused", {})


def held(world, witness, log=LOG.app):
    """Return (size, time) of the newest cosigned checkpoint in the lake, or None."""
    text = signer.of(world.lake, log).folder.get(witnesses.path(witness))
    if text is None:
        return None
    head = note.opened(text, world.vkeys())
    found = cosignatures.find(text.decode().rpartition("\n\n")[2], head.text, witness.key)
    return head.size, found.at


def test_every_round_is_cosigned_without_waiting_for_it(signed, witness):
    assert submitted(signed) == []
    assert held(signed, witness) == (700, AT)
    signed.land(*range(700, 760), day=3)
    background()
    assert held(signed, witness) == (760, AT)
    assert signed.verify().ok


def test_a_checkpoint_is_submitted_once(signed, witness, monkeypatch):
    assert submitted(signed) == []
    monkeypatch.setattr(witnesses, "_request", None)
    assert submitted(signed) == []
    signer.sign(signed.lake, LOG, 700, NOON)  # a round without new rows
    background()


def test_the_checkpoint_itself_stays_as_it_was(signed, witness):
    before = witnessing.note_of(signed)
    submitted(signed)
    assert witnessing.note_of(signed) == before
    folder = signer.of(signed.lake, LOG.app).folder
    assert folder.get(witnesses.path(witness)).startswith(before)


def test_acts_are_cosigned_too(signed, witness):
    operator_acts.record(signed.lake, {"act": "test"}, NOON)
    background()
    assert held(signed, witness, "acts") == (1, AT)
    assert set(witnesses.logs(signed.lake)) == {"acts", LOG.app}


def test_a_lake_without_witnesses_asks_nobody(signed, monkeypatch):
    monkeypatch.setattr(witnesses, "_request", None)
    signed.land(*range(700, 710), day=3)
    background()
    assert submitted(signed) == []


def test_a_witness_that_was_away_sees_the_newest_checkpoint(signed, tmp_path):
    (port,) = free_ports(1)
    chosen = Witness(url=f"http://127.0.0.1:{port}", key=KEY.vkey)
    witnessed(signed, chosen)
    (fault,) = submitted(signed)
    assert fault == "witness.example/w1: ConnectError: will be retried"
    signed.land(*range(700, 750), day=3)
    background()
    assert held(signed, chosen) is None
    with serving(tmp_path / "seen", signed.vkeys(), key=KEY, port=port):
        assert submitted(signed) == []
        assert held(signed, chosen) == (750, AT)
    with serving(tmp_path / "seen", signed.vkeys(), key=KEY, port=port, at=AT + 60):
        signed.land(*range(750, 800), day=3)
        background()
        assert held(signed, chosen) == (800, AT + 60)


def test_a_witness_that_is_away_is_not_waited_for_by_every_stream(signed):
    (port,) = free_ports(1)
    witnessed(signed, Witness(url=f"http://127.0.0.1:{port}", key=KEY.vkey))
    assert len(witnesses.submit(signed.lake, signed.integrity, [LOG.app, "acts", LOG.app])) == 1
    assert witnesses._submit(signed.lake, signed.integrity, [LOG.app]) == []  # it rests


def test_a_round_does_not_wait_for_a_witness(signed):
    """The witness answers only once the round is over."""
    over = threading.Event()

    def late(_request):
        over.wait(30)
        return 503, "text/plain", b""

    with answering(late) as server:
        witnessed(signed, Witness(url=server.address, key=KEY.vkey))
        signed.land(*range(700, 750), day=3)
        over.set()
        background()
        assert len(server.bodies) == 1


def test_an_answer_that_was_lost_is_given_again(signed, witness):
    submitted(signed)
    shutil.rmtree(signed.log / "cosignatures")
    assert submitted(signed) == []
    assert held(signed, witness) == (700, AT)


def test_a_damaged_cosignature_is_replaced(signed, witness):
    submitted(signed)
    (signed.log / witnesses.path(witness)).write_bytes(b"\xff")
    assert submitted(signed) == []
    assert held(signed, witness) == (700, AT)


def test_several_witnesses_do_not_depend_on_each_other(signed, tmp_path):
    (port,) = free_ports(1)
    away = Witness(url=f"http://127.0.0.1:{port}", key=KEY.vkey)
    with serving(tmp_path / "seen", signed.vkeys(), name="witness.example/w2") as there:
        witnessed(signed, away, there)
        assert len(submitted(signed)) == 1
        assert held(signed, there) == (700, AT)


def forged(text, key):
    return 200, "text/plain", f"{cosignatures.cosign(text, key, AT)}\n".encode()


def looping(request):
    """Tell another size each time."""
    return 409, "text/x.tlog.size", b"%d\n" % (len(request.server.bodies) % 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (forged("x\n1\nAAAA\n", KEY), "is not valid"),
        (forged("x\n1\nAAAA\n", cosignatures.new_key("else")), "no cosignature of the configured"),
        ((200, "text/plain", b""), "no cosignature of the configured"),
        ((200, "text/plain", b"\xff" * 900), "no cosignature of the configured"),
        ((200, "text/plain", b"x" * 2**20), "too large"),
        ((200, "text/html", b"<html>"), "no cosignature of the configured"),
        ((302, "text/plain", b""), "it answered 302"),
        ((403, "text/plain", b"\x1b[2J secret"), "does not know the key"),
        ((404, "text/plain", b""), "does not know this log"),
        ((500, "text/plain", b""), "it answered 500: will be retried"),
        ((409, "text/plain", b"3\n"), "409 without a size"),
        ((409, "text/x.tlog.size", b"0x3\n"), "409 without a size"),
        ((409, "text/x.tlog.size", b"9" * 400), "409 without a size"),
        ((409, "text/x.tlog.size", b"3\n"), "contradicts itself"),
        (looping, "contradicts itself"),
        ((409, "text/x.tlog.size", b"800\n"), "has seen 800 rows, but the checkpoint"),
    ],
)
def test_a_witness_that_lies_or_fails_changes_nothing(signed, answer, reason):
    with answering(answer) as server:
        witnessed(signed, Witness(url=server.address, key=KEY.vkey))
        (fault,) = submitted(signed)
        assert len(server.bodies) <= 3
    assert reason in fault
    assert "secret" not in fault
    assert not (signed.log / "cosignatures").exists()


def test_an_answer_that_trickles_ends_in_time(signed, monkeypatch):
    monkeypatch.setattr(witnesses, "_SECONDS", 0.3)
    stop = threading.Event()

    def trickle(request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.05):
            request.wfile.write(b"X-More: 1\r\n")
        return 200, "text/plain", b""

    with answering(trickle) as server:
        witnessed(signed, Witness(url=server.address, key=KEY.vkey))
        started = time.monotonic()
        (fault,) = submitted(signed)
        stop.set()
    assert "TimeoutError" in fault
    assert time.monotonic() - started < 20


def test_of_two_views_of_a_log_the_witness_cosigns_one(signed, witness, tmp_path):
    """Two lakes signed with the same key, of which each is shown to somebody else."""
    submitted(signed)
    copy = Signed(tmp_path / "copy", signed.settings)
    shutil.copytree(signed.folder, copy.folder)
    shutil.rmtree(copy.folder / "state" / "lakes")
    signed.land(*range(700, 750), day=3)
    background()
    copy.land(*range(800, 860), day=3)
    background()
    assert held(signed, witness) == (750, AT)
    assert held(copy, witness) == (700, AT)
    (fault,) = submitted(copy)
    assert "422" in fault
    assert "run `auditlake verify`" in fault


def test_a_lake_that_was_rolled_back_is_not_cosigned(signed, witness):
    shutil.copytree(signed.folder / "lake", signed.folder / "copy")
    signed.land(*range(700, 750), day=3)
    background()
    shutil.rmtree(signed.folder / "lake")
    (signed.folder / "copy").rename(signed.folder / "lake")
    (fault,) = submitted(signed)
    assert "has seen 750 rows, but the checkpoint in the lake covers 700" in fault


def test_a_damaged_tile_is_an_error_and_no_wrong_proof(signed, witness):
    submitted(signed)
    witnessed(signed).land(*range(700, 750), day=3)
    witnessed(signed, witness)
    shutil.rmtree(signed.log / "tile")
    (fault,) = submitted(signed)
    assert "a tile is missing or damaged: run `auditlake verify --full`" in fault


def test_the_health_of_a_witness_is_how_far_it_has_cosigned_or_what_to_mend(signed, witness):
    def health(chosen=witness, now=NOON):
        return witnesses.health(signed.lake, signed.integrity, chosen, now)

    with pytest.raises(LakeError, match=r"does not know the log .*okta/system_log.* accept it"):
        health()
    assert submitted(signed) == []
    assert health() == "1 of 1 logs cosigned as they are, the newest at 2026-03-01 12:00:00 UTC"
    Signed(signed.folder).land(*range(700, 710), day=3)
    assert health(now=NOON + timedelta(minutes=59)).startswith("0 of 1 logs")
    with pytest.raises(LakeError, match="nothing since 2026-03-01 12:00:00 UTC, and 1 of 1 logs"):
        health(now=NOON + timedelta(minutes=61))
    other = cosignatures.new_key("other").vkey
    with pytest.raises(LakeError, match=r"correct integrity\.witnesses\.key"):
        health(Witness(url=witness.url, key=other))
    with pytest.raises(AuditlakeError, match=r"does not answer.*\[network\]"):
        health(Witness(url=f"http://127.0.0.1:{free_ports(1)[0]}", key=witness.key))
    with answering((500, "text/plain", b"oops\x1b[2J")) as server:
        with pytest.raises(LakeError, match="it answered 500") as refused:
            health(Witness(url=server.address, key=witness.key))
        assert "oops" not in str(refused.value)


def test_a_lake_without_a_signed_log_has_nothing_to_cosign_yet(tmp_path, witness):
    new = witnessed(Signed(tmp_path / "new"), witness)
    assert witnesses.health(new.lake, new.integrity, witness, NOON) == "nothing is signed yet"
