"""Schemas: every column has a meaning, and every table returns its rows as they were written."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from pipelines import schemas
from pipelines.lake import commits, tables
from pipelines.lake.commits import Decision, Table

TABLES = {
    name: schema
    for name, schema in vars(schemas).items()
    if name.isupper()
    and isinstance(schema, dict)
    and name not in ("MEANINGS", "DESCRIPTIONS")
    and name[0] != "_"
}


def test_every_column_of_events_has_a_meaning_of_its_own():
    assert list(schemas.MEANINGS) == list(schemas.EVENTS)
    assert all(meaning.strip() for meaning in schemas.MEANINGS.values())
    assert not any("|" in meaning for meaning in schemas.MEANINGS.values()), "it breaks the page"


def test_a_column_has_the_same_type_in_every_table():
    """`rejected` alone keeps bytes that are no text."""
    types = {}
    for table, schema in TABLES.items():
        for name, dtype in schema.items():
            if (table, name) != ("REJECTED", "raw"):
                types.setdefault(name, set()).add(dtype)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_the_names_of_columns_are_distinct_even_if_case_is_ignored():
    """Delta compares the names of columns without case."""
    for schema in TABLES.values():
        assert len({name.casefold() for name in schema}) == len(schema)


def test_every_time_is_in_utc_and_microseconds():
    times = [
        dtype for schema in TABLES.values() for dtype in schema.values() if dtype.is_temporal()
    ]
    assert set(times) == {schemas.Timestamp, pl.Date()}


VALUES = {
    pl.String(): ["", "\u00e9\U0001f511\n"],
    pl.Binary(): [b"", b"\x00\xff"],
    pl.Int32(): [0, -(2**31)],
    pl.Int64(): [2**63 - 1, -1],
    pl.Float64(): [0.0, -1.5],
    pl.Boolean(): [True, False],
    pl.Date(): [date(1970, 1, 1), date(2026, 3, 1)],
    schemas.Timestamp: [
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 0, 0, 123_456, UTC),
    ],
    pl.List(schemas.TARGET): [[], [{"id": "1", "name": None, "type": "User"}] * 2],
    pl.List(pl.String()): [[], ["", "x"]],
    pl.List(schemas.MATCHED): [[], [{"field": "actor", "value": None}]],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_returns_its_rows_as_they_were_written(lake, name):
    schema = TABLES[name]
    partitions = tuple(column for column in ("date", "stream") if column in schema)[:1]
    full = pl.DataFrame({column: VALUES[dtype] for column, dtype in schema.items()}, schema=schema)
    nulls = full.head(1).select(
        pl.col(c) if c in partitions else pl.lit(None, dtype).alias(c)
        for c, dtype in schema.items()
    )
    rows = pl.concat([full, nulls])
    table = Table(name=name.lower(), schema=schema, about="", partitions=partitions)
    commits.write(lake, table, "app", lambda *_: Decision(rows=rows, after=1), {})
    stored = tables.scan(lake, name.lower()).collect()
    assert dict(stored.schema) == schema
    assert sorted(stored.rows(), key=repr) == sorted(rows.rows(), key=repr)
