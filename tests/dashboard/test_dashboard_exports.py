"""What leaves the dashboard: whole, and harmless to a spreadsheet and to Markdown."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime

import polars as pl
import pytest
import small_lakes
from hypothesis import given
from hypothesis import strategies as st

from dashboard import escaping, exports
from pipelines.event import EVENTS

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROWS = [*small_lakes.events(20, end=NOW), small_lakes.hostile(99, NOW)]
FRAME = pl.DataFrame(ROWS, schema=EVENTS)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_a_csv_holds_every_row_and_column() -> None:
    rows = read(exports.csv(FRAME.lazy()))
    assert len(rows) == 21
    assert list(rows[0]) == list(EVENTS)
    assert rows[0]["time"].endswith("Z")
    assert json.loads(rows[0]["targets"]) == ROWS[0]["targets"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r", "  =", "\n@", "|", "%"])
def test_no_cell_is_computed_by_a_spreadsheet(start: str) -> None:
    frame = pl.DataFrame({"x": [f"{start}cmd()", "plain", "a=b"]})
    cells = [row["x"] for row in read(exports.csv(frame.lazy()))]
    assert cells == [f"'{start}cmd()", "plain", "a=b"]


def test_parquet_is_the_result_itself() -> None:
    assert pl.read_parquet(io.BytesIO(exports.parquet(FRAME.lazy()))).equals(FRAME)


@given(st.text())
def test_escaped_text_leaves_markdown_nothing_to_act_on(text: str) -> None:
    harmless = re.sub(r"&#\d+;", "", escaping.markdown(text))
    assert re.fullmatch(r"[^\W_]*( [^\W_]*)*", harmless)
