"""Removals of days and of rows are carried out by the same steps, once each."""

from datetime import date

import polars as pl
import pytest

from pipelines.errors import LakeError
from pipelines.integrity import operator_acts, removing
from pipelines.lake.tables import Lake, StreamKey
from tests.integrity.worlds import LOG, NOON

ABOUT = {"act": "erasure", "who": "ada", "why": "a test"}


def test_a_removal_names_its_rows_in_sql():
    rows = pl.DataFrame({"seq": range(5), "date": [date(2026, 3, day) for day in range(1, 6)]})
    days = removing.of_days(LOG, date(2026, 3, 4), 2)
    assert rows.filter(pl.sql_expr(days.rows))["seq"].to_list() == [0, 1]
    assert rows.filter(pl.sql_expr(days.days))["seq"].to_list() == [0, 1, 2]
    single = removing.of_rows(LOG, [4, 1])
    assert rows.filter(pl.sql_expr(single.rows))["seq"].to_list() == [1, 4]
    assert single.days is None


def test_rows_next_to_each_other_are_one_span():
    assert removing.spans([7, 1, 2, 3, 9]) == [(1, 4), (7, 8), (9, 10)]


def test_several_acts_are_carried_out_at_once_and_only_once(signed):
    for seqs in ([5], [6, 300], [699]):
        removing.record(signed.lake, LOG, seqs, ABOUT, NOON)
    assert operator_acts.doomed(signed.lake, LOG) == [(5, 7), (300, 301), (699, 700)]
    assert removing.finish(signed.lake, NOON) == [LOG.table]
    assert removing.finish(signed.lake, NOON) == []
    assert signed.rows().height == 696
    assert [act["act"] for act in operator_acts.recorded(signed.lake)] == [
        *["erasure"] * 3,
        "retention finished",
    ]
    verdict = signed.verify(full=True)
    assert (verdict.ok, verdict.erased, verdict.events) == (True, 4, 696)


def test_rows_can_be_stored_and_signed_after_the_newest_were_removed(signed):
    removing.record(signed.lake, LOG, [698, 699], ABOUT, NOON)
    removing.finish(signed.lake, NOON)
    assert signed.land(*range(700, 720), day=3) == 720
    assert signed.verify().ok


def test_an_act_about_a_table_that_is_gone_stops_nothing(signed):
    other = StreamKey("okta_2", "system_log")
    signed.land(*range(20), log=other)
    removing.record(signed.lake, other, [1], ABOUT, NOON)
    removing.record(signed.lake, LOG, [1], ABOUT, NOON)
    (signed.folder / "lake" / other.table).rename(signed.folder / "gone")
    assert removing.finish(signed.lake, NOON) == [LOG.table]


def test_without_signing_nothing_is_recorded(signed):
    with pytest.raises(LakeError, match="must be recorded and signed"):
        removing.record(Lake(signed.lake.root), LOG, [1], ABOUT, NOON)
