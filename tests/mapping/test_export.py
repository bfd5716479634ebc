"""Exports are complete, newest first, streamed, safe in a spreadsheet and valid OCSF."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import visible
from pipelines.cli import main
from pipelines.errors import ConfigurationError
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from pipelines.schemas import EVENTS
from tests.extraction.test_renormalise import land, made, record
from tests.mapping.from_ocsf import from_ocsf
from tests.mapping.test_ocsf_export import faults, rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def table(drawn):
    """Events at distinct minutes of some days, so that their order is one."""
    times = [NOON + timedelta(minutes=7 * n, hours=5 * (n % 9)) for n in range(len(drawn))]
    return pl.DataFrame(
        [
            {**row, "event_uid": str(n), "time": time, "date": time.date()}
            for n, (row, time) in enumerate(zip(drawn, times, strict=True))
        ],
        schema=EVENTS,
    )


def whole(frame, form):
    return b"".join(export.chunks(frame.lazy(), form))


def newest_first(frame):
    return frame.sort("time", descending=True)


@settings(max_examples=30)
@given(st.lists(rows(), min_size=1, max_size=12))
def test_every_format_has_every_row_newest_first(drawn):
    frame = table(drawn)
    expected = newest_first(frame)
    assert pl.read_parquet(io.BytesIO(whole(frame, "parquet"))).equals(expected)
    events = [json.loads(line) for line in whole(frame, "ocsf").splitlines()]
    assert [fault for event in events for fault in faults(event)] == []
    assert from_ocsf(events).to_dicts() == expected.to_dicts()
    uids = expected["event_uid"].to_list()
    assert [json.loads(line)["event_uid"] for line in whole(frame, "ndjson").split(b"\n")[:-1]] == (
        uids
    )
    cells = csv.DictReader(io.StringIO(whole(frame, "csv").decode(), newline=""))
    assert [row["event_uid"] for row in cells] == uids


@pytest.fixture
def many():
    """Some hundred plain events."""
    row = dict.fromkeys(EVENTS) | {"ingested_at": NOON, "class_uid": 3002, "activity_id": 1}
    row |= {"activity_type": "Authentication", "action_type": "Logon", "targets": []}
    row |= {"outcome": "success", "kind": "okta", "integration": "okta", "action": "sign-in"}
    return table([{**row, "actor_name": f"person {n}"} for n in range(150)])


@pytest.mark.parametrize("form", export.FORMATS)
def test_a_result_is_written_in_pieces(many, form, monkeypatch):
    monkeypatch.setattr(export, "_SPAN", 10)
    assert max(span.events for span in export.ranges(many.lazy())) <= 11
    in_pieces = whole(many, form)
    monkeypatch.undo()
    if form == "parquet":
        assert pl.read_parquet(io.BytesIO(in_pieces)).equals(newest_first(many))
    else:
        assert in_pieces == whole(many, form)


@pytest.mark.parametrize("form", export.FORMATS)
def test_no_events_still_give_a_valid_file(many, form):
    empty = whole(many.head(0), form)
    if form == "parquet":
        assert pl.read_parquet(io.BytesIO(empty)).schema == EVENTS
    else:
        assert empty.decode().strip() == (",".join(EVENTS) if form == "csv" else "")


@pytest.mark.parametrize(
    "start",
    ["=", "+", "-", "@", "\t=", "  =", "\n@", "|", "%", "\uff1d", "\uff0b", " \uff0d", "\uff20"],
)
def test_no_cell_is_evaluated_by_a_spreadsheet(many, start):
    frame = many.head(2).with_columns(message=pl.Series([f"{start}cmd()", "a=b; c"]))
    cells = sorted(row["message"] for row in in_csv(frame))
    assert cells[0].startswith(f"'{start[:1]}")
    assert cells[1] == "a=b; c"


@pytest.mark.parametrize(
    "text", ["x;=cmd()", "x;  \uff1dcmd()", "x\t+cmd()", "x\n=cmd()", "x;@SUM"]
)
def test_no_part_of_a_cell_is_evaluated_where_another_character_separates_cells(many, text):
    (row,) = in_csv(many.head(1).with_columns(message=pl.lit(text)))
    for separator in ";\t\n":
        parts = row["message"].split(separator)
        assert [part for part in parts if part.lstrip()[:1] in tuple("=+-@\uff1d")] == []


def test_deceptive_characters_are_marked_in_csv_and_exact_in_all_other_formats(many):
    name = "\u0430d\u200bmin\u202e\x1b\r"
    targets = [{"id": "1", "name": name, "type": "t"}]
    frame = many.head(1).with_columns(actor_name=pl.lit(name), targets=pl.lit([targets[0]]))
    (row,) = in_csv(frame)
    marked = "[U+0430]d[U+200B]min[U+202E][U+001B][U+000D]"
    assert row["actor_name"] == marked
    assert visible.text("".join(row.values())) == "".join(row.values())
    assert json.loads(whole(frame, "ndjson"))["actor_name"] == name
    assert pl.read_parquet(io.BytesIO(whole(frame, "parquet")))["actor_name"].item() == name


def in_csv(frame):
    return list(csv.DictReader(io.StringIO(whole(frame, "csv").decode(), newline="")))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(where=["actor_name:Person 7"]), 1),
        (Wanted(where=["actor_name:person 1*"]), 61),
        (Wanted(where=["-actor_name:person 1*"]), 89),
        (Wanted(where=["class_uid:3002", "actor_name:*9"]), 15),
        (Wanted(where=["city:*"]), 0),
        (Wanted(where=["-city:*"]), 150),
        (Wanted(where=["actor_name:person.7"]), 0),
        (Wanted(text="ON 14"), 11),
        (Wanted(search='actor:"Person 7" OR actor:"person 14*"'), 1),
        (Wanted(search="actor:(person*1*) -actor:*0", where=["actor_name:*5"]), 6),
        (Wanted(integrations=["okta"], until=NOON), 0),
        (Wanted(since=NOON, until=NOON + timedelta(minutes=1)), 1),
        (Wanted(since=NOON + timedelta(days=1)), 89),
    ],
)
def test_the_filters(many, wanted, found):
    assert export.matching(many.lazy(), wanted).collect().height == found


@pytest.mark.parametrize("term", ["city", "town:x", "targets:x", ""])
def test_a_filter_without_a_column_is_refused(many, term):
    with pytest.raises(ConfigurationError, match="expected COLUMN:VALUE"):
        export.matching(many.lazy(), Wanted(where=[term]))


@pytest.fixture
def auditlake(lake, tmp_path):
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{lake.root}"\n')

    def run(*arguments):
        config = str(tmp_path / "auditlake.toml")
        return CliRunner().invoke(main.main, ["--config", config, *arguments])

    return run


def test_the_command_writes_a_file_or_to_standard_output(lake, auditlake, tmp_path):
    land(made()(lake), *(record(n, verb=f"v{n}") for n in range(5)))
    shown = auditlake("export", "--format", "ndjson", "--where", "action:v3")
    assert json.loads(shown.stdout)["action"] == "v3"
    out = tmp_path / "events.parquet"
    done = auditlake("export", "--format", "parquet", "--out", str(out))
    assert done.exit_code == 0
    count = pl.read_parquet(out).height
    assert done.stderr == f"{out}: {count:,} events exported as parquet\n"
    assert pl.read_parquet(out).height == 5
    assert [path.name for path in tmp_path.glob("events*")] == ["events.parquet"]


def test_the_command_reports_errors_in_one_line(lake, auditlake, tmp_path):
    empty = auditlake("export", "--format", "csv")
    assert (empty.exit_code, empty.stderr.count("\n")) == (1, 1)
    land(made()(lake), record(1, verb="x"))
    nowhere = auditlake("export", "--format", "csv", "--out", str(tmp_path / "no" / "x.csv"))
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (2, 1)
    assert "No such file" in nowhere.stderr
