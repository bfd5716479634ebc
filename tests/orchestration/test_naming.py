"""Names that Dagster accepts, and the figures shown with assets."""

import re
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from pipelines import registry, schemas
from pipelines.extraction.report import Report
from pipelines.lake.tables import StreamKey
from pipelines.orchestration import naming
from pipelines.sdk.pages import Gap, Span

DAY = datetime(2026, 3, 1, tzinfo=UTC)
LOG = StreamKey("second-okta", "system_log")


@pytest.mark.parametrize("name", ["okta", "second-okta", "a-b-c", "a_b"])
def test_every_name_of_an_instance_becomes_one_that_dagster_accepts(name):
    source = registry.source(
        name, {"kind": "okta", "base_url": "https://acme.okta.com", "api_token": "t"}
    )
    valid = re.compile(r"[A-Za-z0-9_]+")
    for made in (naming.word(name), naming.op(StreamKey(name, "log")), naming.client_key(source)):
        assert valid.fullmatch(made)


def test_names_that_differ_stay_different():
    names = ["a-b", "a_b", "a", "ab"]
    assert len({naming.word(name) for name in names}) == len(names)
    assert len({naming.op(StreamKey(name, "log")) for name in names}) == len(names)


def test_the_key_of_an_asset_is_the_path_of_its_table():
    assert "/".join(naming.key_of(LOG).path) == LOG.table


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (timedelta(0), "0 h 0 min"),
        (timedelta(minutes=59, seconds=59), "0 h 59 min"),
        (timedelta(hours=1), "1 h 0 min"),
        (timedelta(days=3, hours=2, minutes=5), "74 h 5 min"),
    ],
)
def test_durations_are_in_hours_and_minutes(time, text):
    assert naming.short(time) == text


def test_a_line_reports_progress_back_to_the_oldest_record():
    report = Report(integration="okta", stream="system_log", rows=1200, total=34_000)
    assert naming.line(report) == "system_log: 1,200 new of 34,000"
    report.oldest = DAY
    assert naming.line(report) == "system_log: 1,200 new of 34,000, back to 2026-03-01"


def test_a_line_and_the_figures_name_a_clock_that_differs():
    report = Report(integration="okta", stream="system_log", total=1)
    report.clock_ahead = timedelta(minutes=-4)
    assert "clock" not in naming.round_figures(report)
    report.clock_ahead = timedelta(days=3)
    assert naming.round_figures(report)["clock"] == "this machine's clock is 3 d 0 h ahead"
    assert naming.line(report).endswith("3 d 0 h ahead, the service's clock is used")


def test_the_figures_of_a_round_span_all_that_it_covered():
    hours = [DAY + timedelta(hours=hour) for hour in range(4)]
    report = Report(integration="okta", stream="system_log", rows=3, faults={"city": 2})
    report.covered = [Span(since=hours[2], until=hours[3]), Span(since=hours[0], until=hours[1])]
    report.gaps = [Gap(span=report.covered[0], reason="expired")]
    report.seconds = {"fetch": 1.23456}
    figures = naming.round_figures(report)
    assert (figures["rows added"], figures["gaps"], figures["spans covered"]) == (3, 1, 2)
    assert figures["covered since"] == naming.stamp(hours[0])
    assert figures["covered until"] == naming.stamp(hours[3])
    assert (figures["unreadable city"], figures["seconds fetch"]) == (2, 1.235)


def test_a_round_without_coverage_has_no_times():
    figures = naming.round_figures(Report(integration="okta", stream="system_log"))
    assert not [name for name in figures if name.startswith("covered")]


def test_the_figures_of_a_table_come_from_its_delta_log(still_world):
    assert naming.table_figures(still_world.lake, "raw/okta/system_log") == {}
    still_world.poll("okta")
    rows = still_world.stored("okta", "system_log")
    figures = naming.table_figures(still_world.lake, "raw/okta/system_log")
    assert figures["dagster/row_count"] == rows.height
    assert figures["table bytes"] > 0
    newest = figures["newest event"].value
    # Statistics in the Delta log are cut to milliseconds.
    assert abs(newest - rows["time"].max().timestamp()) < 0.002
    assert figures["lag in seconds"] > 0


def test_the_greatest_of_no_files_is_unknown():
    assert naming.greatest(pl.DataFrame(), "max.time") is None
    assert naming.greatest(pl.DataFrame({"max.time": [None]}), "max.time") is None


def test_an_asset_shows_the_columns_of_its_table(lake):
    shape = naming.shape(lake, "events", schemas.EVENTS)
    columns = shape["dagster/column_schema"].columns
    assert [column.name for column in columns] == list(schemas.EVENTS)
    assert isinstance(columns[0], dg.TableColumn)
    assert shape["dagster/uri"].endswith("/events")
