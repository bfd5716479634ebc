"""Reports on verifications: one line to read, a document to store, the last one of each table."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.errors import AuditlakeError
from pipelines.integrity import operator_acts, reports
from pipelines.integrity.verifier.job import TableReport, WorkerPool
from tests.integrity import attacks
from tests.integrity.worlds import LOG, NOON

AT = datetime(2026, 3, 1, tzinfo=UTC)


def report(table=LOG.table, **fields):
    return TableReport(table=table, at=AT, **fields)


def test_a_line_reports_a_sound_table_with_its_figures():
    found = report(size=1234, compared_with=["anchor", "record"])
    assert reports.line(found) == (
        "raw/okta/system_log: ok, 1,234 signed, agrees with 2 known checkpoints"
    )
    partly = report(size=1234, first=1024, read=210, removed=300)
    assert reports.line(partly) == (
        "raw/okta/system_log: ok, 1,234 signed, 210 read from row 1,024, "
        "300 removed by retention, agrees with 0 known checkpoints"
    )


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            report("events", size=9, read=1234),
            "events: ok, 1,234 rows, in the files and with the statistics that its log states",
        ),
        (report("rollups", size=20), "rollups: ok, the aggregates of 20 files, counted again"),
        (
            report("rollups", size=20, first=12),
            "rollups: ok, the aggregates of 20 files, counted again from file 12 on",
        ),
        (report("identities", read=438), "identities: ok, 438 rows follow from events"),
    ],
)
def test_a_line_on_a_derived_table_does_not_call_it_signed(found, line):
    assert reports.line(found) == line


def test_a_line_reports_the_first_bad_row_and_how_many_findings_follow():
    found = report()
    found.found("events", 7, "an event differs")
    assert reports.line(found) == "raw/okta/system_log: EVENTS: an event differs"
    found.found("deleted", 5, "row 5 was deleted")
    found.found("checkpoint", None, "no checkpoint")
    assert reports.line(found) == (
        "raw/okta/system_log: DELETED: row 5 was deleted (and 2 more findings)"
    )


def test_a_document_is_json_with_every_finding():
    found = report(size=3)
    found.found("deleted", 1, "row 1")
    document = json.loads(json.dumps(reports.document(found)))
    assert (document["ok"], document["size"], document["at"]) == (False, 3, AT.isoformat())
    assert document["findings"] == [{"kind": "deleted", "seq": 1, "detail": "row 1"}]


def test_the_last_report_of_each_table_is_kept(lake):
    assert reports.kept(lake) == []
    reports.keep(lake, [report("raw/b/b", size=1), report("raw/a/a", size=1)])
    reports.keep(lake, [report("raw/b/b", size=2)])
    assert [(kept["table"], kept["size"]) for kept in reports.kept(lake)] == [
        ("raw/a/a", 1),
        ("raw/b/b", 2),
    ]


def test_an_incremental_report_keeps_the_time_of_the_last_full_one(lake):
    reports.keep(lake, [report()])
    later = TableReport(table=LOG.table, at=AT + timedelta(hours=1), first=256)
    reports.keep(lake, [later])
    (kept,) = reports.kept(lake)
    assert (kept["at"], kept["full_at"]) == (later.at.isoformat(), AT.isoformat())


def test_an_incremental_run_does_not_hide_what_a_full_one_has_found(lake):
    failed = report()
    failed.found("changed", 7, "row 7 was changed")
    reports.keep(lake, [failed])
    reports.keep(lake, [report(first=256)])
    (kept,) = reports.kept(lake)
    assert (kept["ok"], kept["findings"][0]["detail"]) == (False, "row 7 was changed")
    again = report(first=256)
    again.found("deleted", 300, "row 300 was deleted")
    reports.keep(lake, [again])
    assert reports.kept(lake)[0]["findings"][0]["kind"] == "deleted"
    reports.keep(lake, [report()])
    assert reports.kept(lake)[0]["ok"] is True


def test_records_with_other_content_stay_in_the_report_until_all_rows_are_read_again(lake):
    reports.keep(lake, [report(differing={"a": "a: rows 1 and 2"})])
    reports.keep(lake, [report(first=256, differing={"b": "b: rows 7 and 9"})])
    reports.keep(lake, [report(first=512, differing={"a": "a: rows 1, 2 and 11"})])
    (kept,) = reports.kept(lake)
    assert kept["differing"] == {"a": "a: rows 1, 2 and 11", "b": "b: rows 7 and 9"}
    reports.keep(lake, [report()])
    assert reports.kept(lake)[0]["differing"] == {}


def test_a_table_never_verified_in_full_has_no_time_of_it(lake):
    reports.keep(lake, [report(first=256)])
    assert reports.kept(lake)[0]["full_at"] is None


def test_checkpoints_are_found_in_files_and_folders_among_other_files(signed, tmp_path):
    folder = tmp_path / "audit"
    (folder / "2025").mkdir(parents=True)
    note = (signed.log / "checkpoint").read_text()
    (folder / "2025/okta.txt").write_text(note)
    (folder / "notes.md").write_text("# not a checkpoint\n")
    (folder / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    (folder / "large.txt").write_text(note + "\n" * 20_000)
    found = reports.kept_checkpoints(signed.place, [folder, folder / "2025/okta.txt"])
    assert found == {LOG.table: [note, note]}


def test_a_path_without_a_checkpoint_is_an_error(signed, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    for name in ("empty", "text.txt"):
        with pytest.raises(AuditlakeError, match=f"{name}: contains no checkpoint"):
            reports.kept_checkpoints(signed.place, [tmp_path / name])


def test_tables_and_the_log_of_acts_are_verified_in_the_given_order(signed):
    operator_acts.record(signed.lake, {"act": "retention", "table": "raw/x/y"}, NOON)
    attacks.delete(signed)
    tables = ("acts", LOG.table)
    with WorkerPool(1) as crew:
        acts, rows = reports.verdicts(signed.place, tables, {"okta": "okta"}, crew)
    assert (acts.table, acts.ok, acts.size) == ("acts", True, 1)
    assert (rows.table, rows.first_bad.kind) == (LOG.table, "deleted")


def test_given_keys_replace_the_trusted_ones(signed):
    assert reports.place(signed.lake, signed.integrity).keys == signed.vkeys()
    assert reports.place(signed.lake, signed.integrity, ["other"]).keys == ["other"]
