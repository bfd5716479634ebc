"""Verification in Dagster: one check per stream, hourly for new rows, nightly for all."""

import dagster as dg
import pytest

from pipelines import definitions as dagster_definitions
from pipelines import registry
from pipelines.integrity import reports
from pipelines.lake.tables import Lake
from pipelines.settings import Settings, validated
from tests.integrity import attacks

KEY = dg.AssetKey(["raw", "okta", "system_log"])


def made_for(lake):
    okta = {"base_url": "http://127.0.0.1:9/okta", "api_token": "t"}
    chosen = validated(Settings, {"integrations": {"okta": okta}}, "test")
    return dagster_definitions.definitions(lake, registry.sources(chosen))


def verified(signed, job="verification"):
    """Run the job and return the evaluation of the check."""
    with dg.DagsterInstance.ephemeral() as instance:
        done = made_for(signed.lake).resolve_job_def(job).execute_in_process(instance=instance)
        (found,) = (e for e in done.get_asset_check_evaluations() if e.check_name == "as_signed")
        return found


def test_the_hourly_check_passes_and_stores_its_report_for_the_dashboard(signed):
    found = verified(signed)
    assert (found.passed, found.asset_key) == (True, KEY)
    assert (
        found.description == "raw/okta/system_log: ok, 700 signed, agrees with 1 known checkpoints"
    )
    (kept,) = reports.kept(signed.lake)
    assert (kept["ok"], kept["size"], kept["full_at"]) == (True, 700, kept["at"])


def test_an_attack_fails_the_check_and_is_described(signed):
    attacks.delete(signed)
    found = verified(signed)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert "DELETED: row 417 (event_id id-000417)" in found.description


def test_new_rows_are_verified_hourly_and_all_rows_nightly(signed):
    assert verified(signed).passed
    attacks.modify(signed, seq=10)
    assert verified(signed).passed, "row 10 was verified before"
    assert "CHANGED: row 10" in verified(signed, "full_table_checks").description


def test_a_round_does_not_verify_and_an_unsigned_lake_has_no_verification(signed):
    steps = {node.name for node in made_for(signed.lake).resolve_job_def("okta").nodes}
    assert "check__raw__okta__system_log" in steps
    assert "compare_with_signed" not in steps
    with pytest.raises(dg.DagsterInvariantViolationError):
        made_for(Lake(signed.lake.root)).resolve_job_def("verification")
