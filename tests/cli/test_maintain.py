"""`maintain` and `retain` delete what the configuration requires, and print it before."""

import json

import polars as pl
import pytest

from pipelines.cli import config_file
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from sandbox.server import Options, running
from tests.cli import command

LOG = "raw/okta/system_log"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with a configuration and a lake of three days."""
    return command.polled(tmp_path_factory.mktemp("deployment"), days=3)


def days(folder):
    return tables.scan(Lake(f"{folder}/data"), LOG).collect()["date"]


def keep(folder, period):
    """Write a configuration that keeps so many days of okta."""
    text = (folder / "auditlake.toml").read_text().partition("\n[retention")[0]
    section = f'\n[retention]\nwhy = "works agreement"\n[retention.days]\nokta = {period}\n'
    (folder / "auditlake.toml").write_text(text + section)


def test_a_dry_run_prints_rows_and_days_per_table_and_changes_nothing(filled):
    keep(filled, 1)
    before, rows = command.files(filled), days(filled)
    done = command.run(filled, "retain", "--dry-run")
    assert done.exit_code == 0
    first, *lines = done.output.splitlines()
    border = first.removeprefix("okta/system_log: before ")
    old = rows.filter(rows < pl.Series([border]).str.to_date().item())
    assert old.len() > 0
    assert f"  {LOG}: {old.len()} rows, {old.min()} to {old.max()}" in lines
    assert any(line.startswith("  events: ") for line in lines)
    one = command.run(filled, "retain", LOG, "--before", border, "--dry-run")
    assert one.output == done.output
    assert command.files(filled) == before


def test_a_name_that_nothing_has_is_reported(filled):
    keep(filled, 1)
    with (filled / "auditlake.toml").open("a") as file:
        file.write('oktaa = 7\n"okta/system_log" = 1\n"okta/system" = 7\n')
    done = command.run(filled, "retain", "--dry-run")
    assert [line for line in done.stderr.splitlines() if "check its name" in line] == [
        f"retention.days: {name} is no integration or stream here: check its name"
        for name in ("okta/system", "oktaa")
    ]


def test_without_a_confirmation_nothing_is_deleted(filled):
    keep(filled, 1)
    before = command.files(filled)
    assert command.run(filled, "retain").exit_code == 1
    assert command.files(filled) == before


def test_what_is_not_due_is_kept(filled):
    keep(filled, 100)
    assert "no row is older" in command.run(filled, "retain", "--dry-run").output
    assert command.run(filled, "maintain", "--json").exit_code == 0
    assert days(filled).n_unique() > 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((LOG,), "TABLE needs --before DATE and --why RULE"),
        ((LOG, "--before", "2000-01-01"), "TABLE needs --before DATE and --why RULE"),
        (("--before", "2000-01-01"), "--before and --why need TABLE"),
    ],
)
def test_incomplete_options_are_explained(filled, arguments, problem):
    done = command.run(filled, "retain", *arguments)
    assert (done.exit_code, problem in done.output) == (2, True)


def test_without_periods_there_is_nothing_to_retain(tmp_path):
    (tmp_path / "auditlake.toml").write_text("")
    done = command.run(tmp_path, "retain", "--dry-run")
    assert (done.exit_code, "retention.days is empty" in done.output) == (2, True)


def test_maintenance_deletes_what_is_due_by_a_signed_act(filled):
    keep(filled, 1)
    rows = days(filled)
    done = command.run(filled, "maintain")
    assert done.exit_code == 0
    assert f"{LOG}: {rows.len() - days(filled).len()} rows from before" in done.output
    assert days(filled).n_unique() <= 2
    assert f"{LOG}: ok" in command.run(filled, "verify", "--full").output
    assert "deleted and recorded" not in command.run(filled, "maintain").output
    assert json.loads(command.run(filled, "maintain", "--json").stdout)


def test_a_removal_that_cannot_be_recorded_is_an_error_after_the_rest_was_done(tmp_path):
    with running(Options(days=3, per_day=60, rate=0)) as server:
        okta = {"okta": server.settings()["okta"]}
        text = config_file.document(okta, f"{tmp_path}/data")
        (tmp_path / "auditlake.toml").write_text(f"{text}\n[integrity]\nsign = false\n")
        assert command.run(tmp_path, "poll").exit_code == 0
    keep(tmp_path, 1)
    done = command.run(tmp_path, "maintain")
    assert done.exit_code == 1
    assert "FAILED: a deletion must be recorded and signed" in done.output
    assert f"{LOG}: " in done.stdout
    assert days(tmp_path).n_unique() > 2
