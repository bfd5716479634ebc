"""A newer auditlake completes the tables of an older one, and an older one refuses newer tables."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import polars as pl
import pytest
from click.testing import CliRunner
from deltalake import DeltaTable, write_deltalake

from dashboard import access_log
from pipelines import schemas
from pipelines.cli.main import main
from pipelines.errors import NewerLake
from pipelines.lake import (
    commits,
    coverage,
    events,
    formats,
    handles,
    identity_table,
    raw,
    reconciliation,
    rollup_table,
    streams,
    tables,
)
from pipelines.lake.commits import Decision, Table
from pipelines.schemas import RAW
from tests.lake.batches import LOG, batch, part

TABLES = [
    Table(name=LOG.table, schema=RAW, about="Okta system_log, https://acme.okta.com"),
    *(events.TABLE, coverage.TABLE, streams.TABLE, rollup_table.TABLE, identity_table.TABLE),
    *(raw.REJECTED_TABLE, reconciliation.ECHOES_TABLE, reconciliation.RECONCILED_TABLE),
    *(access_log.ACCESS, access_log.VIEWS),
]
COLUMNS = "666d"
"""Of all tables, at formats.FORMAT."""


def columns(handle):
    return {field.name for field in handle.schema().fields}


def older(lake, table):
    """Create a table as an auditlake did that knew neither formats nor the last column."""
    names = [name for name in table.schema if name not in table.partitions]
    fewer = {name: dtype for name, dtype in table.schema.items() if name != names[-1]}
    DeltaTable.create(
        lake.uri(table.name),
        schema=commits._delta_schema(replace(table, name="old", schema=fewer)),
        partition_by=list(table.partitions) or None,
        configuration=table.settings,
        description=table.about,
    )
    row = pl.DataFrame([dict.fromkeys(fewer)], schema=fewer)
    write_deltalake(lake.uri(table.name), row, mode="append")
    return names[-1]


def add_row(lake, table):
    row = pl.DataFrame([dict.fromkeys(table.schema)], schema=table.schema)
    commits.write(lake, table, "app", lambda _, done: Decision(row, done + 1), {})


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_of_an_older_auditlake_is_completed_before_the_first_write(lake, table):
    lacking = older(lake, table)
    before = tables.open_table(lake, table.name)
    assert (formats.of(before), lacking in columns(before)) == (1, False)
    for _ in range(2):
        add_row(lake, table)
    after = tables.open_table(lake, table.name)
    assert formats.of(after) == formats.FORMAT
    assert columns(after) == set(table.schema)
    assert tables.scan(lake, table.name).select(lacking).collect().height == 3
    assert commits.fence(after, "app") == 2
    assert {field.name: field.metadata.get("comment") for field in after.schema().fields} == (
        schemas.descriptions(table.name)
    )
    assert (after.metadata().name, after.metadata().description) == (table.name, table.about)
    # Creation, its row, columns, name, properties and two rows.
    assert after.version() == 6


def test_events_of_an_older_lake_are_derived_further(lake):
    older(lake, events.TABLE)
    with ThreadPoolExecutor(4) as pool:  # both complete the table, and one loses the race
        logs = [replaced(LOG, f"log_{number}") for number in range(4)]
        made = [part(log, 0, 3) for log in logs]
        landed = list(pool.map(lambda each: events.append_batches(lake, [each]), made))
    assert landed == [{log} for log in logs]
    assert tables.scan(lake, "events").collect().height == 13


def replaced(log, stream):
    return log._replace(stream=stream)


def test_a_table_keeps_the_descriptions_it_was_created_with(lake, monkeypatch):
    about = {"n": "a number", "word": "its name"}
    monkeypatch.setitem(schemas.DESCRIPTIONS, "numbers", about)
    narrow = Table(name="numbers", schema={"n": pl.Int64()}, about="Numbers", partitions=())
    add_row(lake, narrow)
    monkeypatch.setitem(schemas.DESCRIPTIONS, "numbers", {**about, "n": "a whole number"})
    wide = replace(narrow, schema={**narrow.schema, "word": pl.String()})
    add_row(lake, wide)
    fields = tables.open_table(lake, "numbers").schema().fields
    assert {field.name: field.metadata["comment"] for field in fields} == about


def test_a_column_that_is_added_later_is_null_in_the_rows_before(lake):
    narrow = Table(name="numbers", schema={"n": pl.Int64()}, about="Numbers", partitions=())
    add_row(lake, narrow)
    wide = replace(narrow, schema={**narrow.schema, "word": pl.String(), "at": pl.Date()})
    row = pl.DataFrame({"n": [2], "word": ["two"], "at": [None]}, wide.schema)
    commits.write(lake, wide, "app", lambda _, done: Decision(row, done + 1), {})
    found = tables.scan(lake, "numbers").sort("n").collect()
    assert found.rows() == [(None, None, None), (2, "two", None)]


def make_newer(lake, table, version="0.9.0"):
    DeltaTable(lake.uri(table)).alter.set_table_properties(
        {"auditlake.format": str(formats.FORMAT + 1), "auditlake.version": version},
        raise_if_not_exists=False,
    )


@pytest.mark.parametrize("read", [tables.open_table, tables.acquire, tables.scan, add_row])
def test_a_table_of_a_newer_auditlake_is_neither_read_nor_written(lake, read):
    raw.append(lake, LOG, batch("a"), "c")
    make_newer(lake, LOG.table)
    before = DeltaTable(lake.uri(LOG.table)).version()
    with pytest.raises(NewerLake, match=r"auditlake>=0\.9\.0'`$") as error:
        read(lake, TABLES[0] if read is add_row else LOG.table)
    assert "\n" not in str(error.value)
    assert DeltaTable(lake.uri(LOG.table)).version() == before
    handles._pool.clear()


@pytest.mark.parametrize("version", ["0.9'; rm -rf ~ #", "\n", "1" * 99, ""])
def test_a_version_that_is_none_is_not_made_part_of_the_command(lake, version):
    add_row(lake, coverage.TABLE)
    make_newer(lake, "coverage", version)
    with pytest.raises(NewerLake, match=r"run `pip install --upgrade 'auditlake'`$"):
        tables.open_table(lake, "coverage")


@pytest.mark.parametrize("number", ["-1", "x", "", "9" * 30])
def test_a_format_that_is_no_number_is_one_that_this_auditlake_does_not_know(lake, number):
    add_row(lake, coverage.TABLE)
    handle = DeltaTable(lake.uri("coverage"))
    handle.alter.set_table_properties({"auditlake.format": number}, raise_if_not_exists=False)
    with pytest.raises(NewerLake):
        tables.open_table(lake, "coverage")


def test_every_command_refuses_a_newer_lake_in_one_line(still_world, tmp_path, monkeypatch):
    still_world.poll("okta")
    make_newer(still_world.lake, "events")
    options = still_world.running.settings()["okta"]
    listed = "\n".join(f"{key} = {json.dumps(value)}" for key, value in options.items())
    config = tmp_path / "auditlake.toml"
    config.write_text(f'[lake]\nroot = "{still_world.lake.root}"\n[integrations.okta]\n{listed}\n')
    monkeypatch.chdir(tmp_path)
    for command in ("poll", "maintain", "verify", "renormalise", "search x", "status"):
        done = CliRunner().invoke(main, ["--config", str(config), *command.split()])
        assert (done.exit_code, done.stdout) == (2, ""), command
        assert done.stderr.startswith("auditlake: events: written by a newer auditlake"), command
        assert done.stderr.count("\n") == 1, command


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_new_table_has_a_name_descriptions_and_statistics_of_columns_that_it_has(lake, table):
    add_row(lake, table)
    handle = tables.open_table(lake, table.name)
    found = {field.name: field.metadata["comment"] for field in handle.schema().fields}
    assert found == schemas.descriptions(table.name)
    assert all(text.strip() for text in found.values())
    assert (handle.metadata().name, handle.metadata().description) == (table.name, table.about)
    named = handle.metadata().configuration.get(commits.STATISTICS)
    assert set(named.split(",") if named else ()) <= set(table.schema)


def test_other_columns_are_another_format():
    """Raise formats.FORMAT with them, and keep a lake of the released version before."""
    found = {table.name: {n: str(dtype) for n, dtype in table.schema.items()} for table in TABLES}
    digest = hashlib.sha256(json.dumps([formats.FORMAT, found]).encode()).hexdigest()
    assert digest[:4] == COLUMNS
