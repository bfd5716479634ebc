"""The codes of rows name the group in which each is counted."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import rollup, row_codes
from pipelines.schemas import EVENTS
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 1, 12, 34, tzinfo=UTC)


@given(st.lists(st.integers(0, 2**40) | st.integers(0, 300), max_size=20))
def test_codes_of_any_size_are_unpacked_as_they_were(codes):
    packed = row_codes.packed(np.array(codes, np.int64))
    assert row_codes.unpacked(packed, len(codes)).tolist() == codes
    some = np.arange(0, len(codes), 2)
    assert row_codes.unpacked(packed, len(codes), some).tolist() == codes[::2]


def test_few_groups_take_a_byte_per_row():
    assert row_codes.packed(np.array([0, 255])) == b"\x00\xff"
    assert row_codes.packed(np.array([1, 256])) == b"\x01\x00\x00\x01"


@pytest.mark.parametrize("part", row_codes.PARTS)
def test_each_row_has_the_code_of_its_values(part):
    rows = [small_lakes.blank() | row for row in small_lakes.events(50, end=NOON, days=0.2)]
    events = pl.DataFrame([{**row, "actor_email": ""} for row in rows[:5]] + rows, schema=EVENTS)
    found = row_codes.coded(events)
    groups = found.filter(part=part)
    assert groups["code"].to_list() == list(range(groups.height))
    about = found.filter(part=row_codes.CODES, field=part).row(0, named=True)
    assert (about["code"], about["n"]) == (groups.height, events.height)
    codes = row_codes.unpacked(about["codes"], about["n"])
    columns = rollup.PARTS[part]
    expected = rollup.in_groups(events.lazy(), part).select(columns).collect()
    assert groups[codes].select(columns).equals(expected)
    counts = np.bincount(codes).tolist()
    assert groups["n"].to_list() == counts


def test_a_file_without_rows_has_no_groups():
    found = row_codes.coded(pl.DataFrame(schema=EVENTS))
    assert found.select("part", "code", "n", "codes").rows() == [(row_codes.CODES, 0, 0, b"")] * 3
