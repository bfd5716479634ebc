"""Checks find faults in tables; verification runs hourly for new rows, nightly for all."""

import json
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines import definitions as dagster_definitions
from pipelines import registry
from pipelines.extraction import rounds
from pipelines.extraction.rounds import Round
from pipelines.integrity import reports, retention
from pipelines.integrity.retention import Removal
from pipelines.lake import tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.orchestration import checks
from pipelines.sdk.pages import Page
from pipelines.settings import Settings, validated
from tests.integrity import attacks
from tests.integrity.test_tampering import edit_events
from tests.integrity.witnessing import serving, witnessed
from tests.integrity.worlds import NOON

LOG = StreamKey("okta", "system_log")
KEY = dg.AssetKey(["raw", *LOG])


def made_for(lake):
    okta = {"base_url": "http://127.0.0.1:9/okta", "api_token": "t"}
    chosen = validated(Settings, {"integrations": {"okta": okta}}, "test")
    return dagster_definitions.definitions(lake, registry.sources(chosen))


def verified(signed, job="verification", check="as_signed"):
    """Run the job and return the evaluation of the check."""
    with dg.DagsterInstance.ephemeral() as instance:
        done = made_for(signed.lake).resolve_job_def(job).execute_in_process(instance=instance)
        (found,) = (e for e in done.get_asset_check_evaluations() if e.check_name == check)
        return found


def test_the_hourly_check_passes_and_stores_its_report_for_the_dashboard(signed):
    found = verified(signed)
    assert (found.passed, found.asset_key) == (True, KEY)
    assert (
        found.description == "raw/okta/system_log: ok, 700 signed, agrees with 1 known checkpoint"
    )
    (kept,) = reports.kept(signed.lake)
    assert (kept["ok"], kept["size"], kept["full_at"]) == (True, 700, kept["at"])


def test_the_hourly_check_asks_witnesses_for_what_they_have_not_seen(signed, tmp_path):
    """Such as those that were away during the last round, or are configured since then."""
    with serving(tmp_path / "seen", signed.vkeys()) as witness:
        found = verified(witnessed(signed, witness))
    assert found.passed
    assert "1 of 1 witnesses have seen 700 rows" in found.description


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


def test_tables_that_are_computed_again_are_verified_every_night(signed):
    nightly = ("full_table_checks", "follows_from_raw")
    assert verified(signed, *nightly).passed
    assert {kept["table"]: kept["ok"] for kept in reports.kept(signed.lake)}["events"]
    invented = pl.lit("invented").alias("stream")
    edit_events(signed, lambda rows: pl.concat([rows, rows.head(1).with_columns(invented)]))
    found = verified(signed, *nightly)
    assert not found.passed
    assert "1 events of okta/invented, which has no raw table" in found.description


def test_a_round_does_not_verify_and_an_unsigned_lake_has_no_verification(signed):
    steps = {node.name for node in made_for(signed.lake).resolve_job_def("okta").nodes}
    assert "check__raw__okta__system_log" in steps
    assert "compare_with_signed" not in steps
    with pytest.raises(dg.DagsterInvariantViolationError):
        made_for(Lake(signed.lake.root)).resolve_job_def("verification")


def checked(operator):
    """The checks that fail in a run over all tables, with their descriptions."""
    job = operator.made.resolve_job_def("full_table_checks")
    done = job.execute_in_process(instance=operator.instance)
    return {
        verdict.check_name: verdict.description
        for verdict in done.get_asset_check_evaluations()
        if not verdict.passed
    }


def doctored(world, change):
    """Change rows of the raw table, as anyone with access to the disk can."""
    uri = world.lake.uri(LOG.table)
    table = DeltaTable(uri)
    table.alter.set_table_properties({"delta.appendOnly": "false"})
    write_deltalake(uri, change(tables.scan(world.lake, LOG.table).collect()), mode="overwrite")


def test_checks_pass_after_a_round(operator):
    (asked,), _ = operator.tick()
    assert operator.run(asked).success
    assert checked(operator) == {}


def test_a_duplicate_row_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: pl.concat([rows, rows.head(1)]))
    found = checked(operator)
    assert "1 of" in found["unique_event_id"]
    assert "dense_seq" in found


def test_a_missing_row_is_found(still_world, operator):
    still_world.poll("okta")
    doctored(still_world, lambda rows: rows.filter(pl.col("seq") != 7))
    found = checked(operator)
    assert "committed" in found["dense_seq"]
    assert "unique_event_id" not in found


def test_rows_whose_removal_is_recorded_but_not_done_are_no_fault(signed):
    """A version between the second act and its deletion lacks only the rows of the first."""
    stream = registry.kind("okta").streams(None)[0]
    days = sorted(signed.rows()["date"].unique())
    for before in days[1:3]:
        table = checks.opened(signed.lake, LOG, stream, NOON, whole=False)
        retention.remove(signed.lake, Removal(log=LOG, before=before, who="ada", why="old"), NOON)
    assert table.files["num_records"].sum() < 700
    assert checks.judged(checks._dense, table).passed


def test_rejected_records_raise_a_warning(still_world, operator):
    still_world.running.sandbox.append(*LOG, [b'{"uuid": 7}'], time=datetime.now(UTC).isoformat())
    still_world.poll("okta")
    assert checked(operator)["nothing_rejected"].startswith("1 x ")


def arrived_again(world, way):
    """Store a record once more with another actor, as it arrived by `way`."""
    source = world.source("okta")
    this = Round(lake=world.lake, source=source, stream=source.streams()[0], client=None, via=way)
    rows = tables.scan(world.lake, LOG.table).sort("time").collect()
    body = json.dumps({**json.loads(rows["raw"][-1]), "actor": {"id": "eve"}}).encode()
    rounds.push(this, [Page(records=[body], cursor="")])
    return rows.row(-1, named=True)


@pytest.mark.parametrize(
    ("way", "severity"),
    [("webhook", dg.AssetCheckSeverity.ERROR), ("backfill", dg.AssetCheckSeverity.WARN)],
)
def test_a_record_that_arrives_again_with_other_content_is_named(
    still_world, operator, way, severity
):
    still_world.poll("okta")
    row = arrived_again(still_world, way)
    job = operator.made.resolve_job_def("okta")
    done = job.execute_in_process(instance=operator.instance)
    (found,) = (v for v in done.get_asset_check_evaluations() if not v.passed)
    assert (found.check_name, found.severity) == ("same_content", severity)
    assert f"1 ids with other content: {row['event_id']}: row {row['seq']} polled" in (
        found.description
    )


def failing(operator, job):
    """Run the job and return the names of the failed checks of the stream."""
    done = operator.made.resolve_job_def(job).execute_in_process(instance=operator.instance)
    return {v.check_name for v in done.get_asset_check_evaluations() if not v.passed}


def test_a_fault_in_old_days_stays_until_all_rows_were_read_again(still_world, operator):
    still_world.poll("okta")
    rows = tables.scan(still_world.lake, LOG.table).collect()
    oldest = rows.sort("time").head(1)
    assert failing(operator, "okta") == set()
    doctored(still_world, lambda rows: pl.concat([rows, oldest]))
    assert "unique_event_id" in failing(operator, "full_table_checks")
    for _ in range(2):  # a round reads the newest two days only
        assert "unique_event_id" in failing(operator, "okta")
    doctored(still_world, lambda _: rows)
    assert "unique_event_id" not in failing(operator, "full_table_checks")
    assert failing(operator, "okta") == set()


def test_the_hourly_check_does_not_clear_what_the_nightly_one_found(signed):
    made = made_for(signed.lake)
    with dg.DagsterInstance.ephemeral() as instance:

        def verdict(job):
            done = made.resolve_job_def(job).execute_in_process(instance=instance)
            found = done.get_asset_check_evaluations()
            return next(each for each in found if each.check_name == "as_signed")

        assert verdict("verification").passed
        attacks.modify(signed, seq=10)
        assert not verdict("full_table_checks").passed
        assert "CHANGED: row 10" in verdict("verification").description
        assert "CHANGED: row 10" in verdict("verification").description
