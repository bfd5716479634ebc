"""A verification that runs while rounds are signed raises no alarm, and still finds rollbacks."""

import json

import pytest

from pipelines.integrity import last_signed, operator_acts, signer
from pipelines.integrity.verifier import known_checkpoints, table_reader, verify
from pipelines.integrity.verifier import operator_acts as verified_acts
from pipelines.lake import raw
from tests.integrity import attacks
from tests.integrity.worlds import LOG, NOON, Signed, once, rows


@pytest.fixture
def signed(tmp_path):
    return Signed(tmp_path, {"anchors": [{"directory": share(tmp_path)}]}).fill()


def share(tmp_path):
    folder = tmp_path / "share"
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (verify, "_newest_head"),
        (table_reader, "read"),
        (table_reader, "build_tree"),
        (verify, "_compare_root"),
        (verify, "_compare_counts"),
        (known_checkpoints, "anchored"),
    ],
)
@pytest.mark.parametrize("full", [True, False])
def test_a_round_signed_during_a_verification_is_no_rollback(
    signed, monkeypatch, module, name, full
):
    signed.verify()
    signed.land(*range(700, 705), day=3)
    once(monkeypatch, module, name, lambda: signed.land(*range(705, 720), day=3))
    report = signed.verify(full=full, events=False)
    assert report.ok, report.findings


def test_another_verification_that_finishes_first_is_no_rollback(signed, monkeypatch):
    def other():
        signed.land(*range(700, 720), day=3)
        assert signed.verify().ok

    once(monkeypatch, table_reader, "read", other)
    report = signed.verify(full=True)
    assert report.ok, report.findings


def test_an_act_recorded_during_a_verification_is_no_rollback(signed, monkeypatch):
    operator_acts.record(signed.lake, {"act": "one"}, NOON)
    once(
        monkeypatch,
        verified_acts,
        "entries",
        lambda: operator_acts.record(signed.lake, {"act": "two"}, NOON),
    )
    report = verify.verify_acts(signed.place)
    assert report.ok, report.findings
    once(
        monkeypatch,
        known_checkpoints,
        "remembered",
        lambda: operator_acts.record(signed.lake, {"act": "three"}, NOON),
    )
    assert verify.verify_acts(signed.place).ok


def test_a_log_that_starts_during_a_verification_is_not_lost(tmp_path, monkeypatch):
    signed = Signed(tmp_path)
    signed.land(*range(10), sign=False)

    def start():
        signer.sign(signed.lake, LOG, 10, NOON)

    once(monkeypatch, verify, "_report_lost_log", start)
    kinds = {finding.kind for finding in signed.verify(events=False).findings}
    assert kinds <= {"checkpoint"}, "a table that nobody has signed yet is no deleted log"
    assert signed.verify(events=False).ok


def test_a_rollback_planted_during_rounds_is_found_by_the_next_verification(signed):
    before = (signed.log / "checkpoint").read_bytes()
    signed.land(*range(700, 720), day=3)
    (signed.log / "checkpoint").write_bytes(before)
    attacks.truncate(signed)
    assert not signed.verify().ok


def killed_after(monkeypatch, module, name):
    """Make the function fail after its work, as a kill would."""
    real = getattr(module, name)

    def dies(*arguments, **options):
        real(*arguments, **options)
        raise KeyboardInterrupt

    patched = pytest.MonkeyPatch()
    patched.setattr(module, name, dies)
    return patched


@pytest.mark.parametrize("step", ["swap", "remember", "add_history"])
def test_a_kill_within_an_announcement_is_completed_by_the_next_round(signed, step):
    places = {
        "swap": (signer, "_publish"),
        "remember": (last_signed, "remember"),
        "add_history": (signer, "_add_history"),
    }
    landed = raw.append(signed.lake, LOG, rows(range(700, 710), day=3), "c").frame
    patched = killed_after(None, *places[step])
    with pytest.raises(KeyboardInterrupt):
        signer.sign(signed.lake, LOG, 710, NOON, landed)
    patched.undo()
    signed.derive(landed)
    assert signed.verify().ok
    signer.sign(signed.lake, LOG, 710, NOON)
    known = json.loads(
        (signed.place.memory / "signed" / "raw.okta.system_log.ndjson").read_text().splitlines()[-1]
    )
    history = "".join(path.read_text() for path in (signed.log / "history").iterdir())
    assert known["size"] == 710
    assert '"size": 710' in history
    assert signed.verify(full=True).ok


def test_the_loser_of_a_swap_extends_the_log_of_the_winner(tmp_path, monkeypatch):
    """Two machines without a common state folder, as with a lake in an object store."""
    one = Signed(tmp_path / "one")
    one.land(*range(10), sign=False)
    key = (one.integrity.folder / "keys").parent
    signer.keys.signing(one.integrity)
    other = Signed(tmp_path / "one", {})
    monkeypatch.setattr(
        type(other), "integrity", property(lambda self: elsewhere(self, tmp_path, key))
    )

    def winner_first():
        monkeypatch.undo()
        signer.sign(one.lake, LOG, 10, NOON)

    lake = other.lake
    once(monkeypatch, signer, "_publish", winner_first)
    signer.sign(lake, LOG, 10, NOON)
    assert one.verify(events=False).ok
    origins = {
        json.loads(line)["note"].split("\n")[0]
        for path in (one.log / "history").iterdir()
        for line in path.read_text().splitlines()
    }
    assert len(origins) == 1, "only one first start may claim the log"


def elsewhere(signed, tmp_path, key):
    from pipelines.settings import IntegritySettings

    folder = tmp_path / "elsewhere"
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    for file in (key / "keys").glob("*.key"):
        copy = folder / "keys" / file.name
        copy.write_bytes(file.read_bytes())
        copy.chmod(0o600)
    return IntegritySettings(folder=folder)
