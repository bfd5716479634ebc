"""A change of what is polled, or of how long it is kept, is a signed act."""

import json
import shutil
from datetime import timedelta

import pytest

from pipelines import registry
from pipelines.integrity import configuration, keys, operator_acts, signer
from pipelines.integrity.verifier import operator_acts as verifier
from pipelines.integrity.verifier import verify
from pipelines.settings.retention import RetentionSettings
from tests.integrity import matrix
from tests.integrity.worlds import NOON, Signed, once

KEPT = RetentionSettings()
SECRET = "s3cret" * 7
GUID = "c0ffee00-0000-4000-8000-000000000001"
ENTRA = {"tenant_id": "t-1", "client_id": "c", "client_secret": SECRET}
OKTA = {"base_url": "https://x.okta.com", "api_token": SECRET}


def configured(**sections):
    return [registry.source(name, keys) for name, keys in sections.items()]


def declare(world, sources, kept=KEPT, now=NOON):
    """Record the configuration as a process that has just started does."""
    configuration._declared.clear()
    configuration.declare(world.lake, sources, kept, now)


def recorded(world):
    return operator_acts.recorded(world.lake)


@pytest.fixture
def world(tmp_path):
    return Signed(tmp_path)


def test_each_change_is_recorded_once_with_its_time_and_without_secrets(world):
    declare(world, configured(okta=OKTA, entra_id={**ENTRA, "streams": ["sign_ins"]}))
    declare(world, configured(entra_id={**ENTRA, "streams": ["sign_ins"]}, okta=OKTA))
    entra, okta = recorded(world)
    assert (okta["act"], okta["part"], okta["at"]) == (
        "configuration", "integrations/okta", NOON.isoformat()
    )  # fmt: skip
    assert okta["now"] == {
        "kind": "okta", "streams": {"system_log": {"base_url": "https://x.okta.com"}}
    }  # fmt: skip
    assert list(entra["now"]["streams"]) == ["sign_ins"]
    later = NOON + timedelta(days=1)
    both, kept = ["directory_audits", "sign_ins"], RetentionSettings(days={"okta": 90})
    other = {**ENTRA, "tenant_id": GUID, "streams": both, "client_secret": SECRET[::-1]}
    declare(world, configured(entra_id=other), kept, later)
    changes = {act["part"]: act["now"] for act in recorded(world)[2:]}
    assert list(changes) == ["integrations/entra_id", "integrations/okta", "retention"]
    assert changes["integrations/okta"] is None
    assert changes["integrations/entra_id"]["streams"] == {
        name: {"tenant_id": GUID} for name in both
    }
    assert changes["retention"] == {"days": {"okta": 90}, "why": kept.why}
    assert {act["at"] for act in recorded(world)[2:]} == {later.isoformat()}
    tree = b"".join(p.read_bytes() for p in (world.folder / "lake").rglob("*") if p.is_file())
    assert not any(secret.encode() in tree for secret in (SECRET, SECRET[::-1]))


def test_two_machines_that_start_at_once_record_a_change_once(world, monkeypatch):
    declare(world, configured(okta=OKTA))
    both = {"keys": [keys.signing(world.integrity)[0].secret], "trusted": world.vkeys()}
    other = Signed(world.folder, {"folder": world.folder / "other machine", **both})
    once(monkeypatch, signer, "_publish", lambda: declare(other, configured(entra_id=ENTRA)))
    declare(world, configured(entra_id=ENTRA))
    assert [act["part"] for act in recorded(world)] == [
        "integrations/okta", "integrations/entra_id", "integrations/okta"
    ]  # fmt: skip


def test_a_lake_that_was_created_again_records_its_configuration(world):
    declare(world, configured(okta=OKTA))
    shutil.rmtree(world.folder / "lake")
    configuration.declare(world.lake, configured(okta=OKTA), KEPT, NOON)
    assert len(recorded(world)) == 1


def test_a_damaged_log_of_acts_or_no_signing_stops_no_round(world):
    declare(world, configured(okta=OKTA))
    shutil.rmtree(world.folder / "lake/integrity/acts/tile")
    declare(world, [])
    unsigned = Signed(world.folder / "other", {"sign": False})
    declare(unsigned, configured(okta=OKTA))
    assert not (world.folder / "other/lake").exists()


@matrix.attack("alter a signed act about the configuration", "CHANGED", matrix.ROWS)
def test_an_altered_act_about_the_configuration_is_found(world):
    declare(world, configured(okta=OKTA))
    assert verify.verify_acts(world.place).ok
    (bundle,) = (world.folder / "lake/integrity/acts/tile/entries").rglob("1")
    bundle.write_bytes(bundle.read_bytes().replace(b"x.okta", b"y.okta"))
    assert [found.kind for found in verify.verify_acts(world.place).findings] == ["changed"]


@pytest.mark.parametrize(
    "odd", [{"part": 7}, {"part": "retention", "now": [7]}, {"now": {}}, {"part": "x", "at": "?"}]
)
def test_a_malformed_act_about_the_configuration_is_a_finding(world, odd):
    operator_acts.record(world.lake, {"act": "configuration", **odd}, NOON)
    (found,) = verify.verify_acts(world.place).findings
    assert (found.kind, found.detail) == (
        "changed",
        "act 0 is about the configuration, and malformed",
    )


def test_verify_lists_the_acts_as_they_were_signed(world):
    declare(world, configured(okta=OKTA))
    (line,) = verifier.lines(verifier.read(world.place.shelf("acts"), world.vkeys()))
    now = json.dumps({"kind": "okta", "streams": {"system_log": {"base_url": OKTA["base_url"]}}})
    assert line == f"0: {NOON.isoformat()} configuration: part=integrations/okta now={now}"
