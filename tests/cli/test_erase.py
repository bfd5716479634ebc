"""`erase` deletes a person's records on request, and records which rows, but not whose."""

import polars as pl
import pytest

from pipelines.lake import tables
from pipelines.lake.tables import Lake
from tests.cli import command

LOG = "raw/okta/system_log"
WHY = ("--why", "request 17", "--who", "officer")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with a configuration and a lake."""
    return command.polled(tmp_path_factory.mktemp("deployment"), days=2)


def events(folder):
    return tables.scan(Lake(f"{folder}/data"), "events").collect()


def person(folder):
    return events(folder)["actor_email"].drop_nulls().mode().sort()[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give either --person, or --integration with --event"),
        (("--person", "a@b.c", "--event", "1"), "give either --person"),
        (("--integration", "okta"), "give either --person"),
        (("--person", "ada"), "--person needs an e-mail address"),
        (("--person", "a@b.c"), "give --why"),
        (("--person", "a@b.c", "--why", "A@b.c wishes it"), "do not name the person"),
    ],
)
def test_incomplete_options_are_explained(filled, arguments, problem):
    done = command.run(filled, "erase", *arguments)
    assert (done.exit_code, problem in done.output) == (2, True)


def test_a_dry_run_prints_the_records_and_changes_nothing(filled):
    before, address = command.files(filled), person(filled)
    done = command.run(filled, "erase", "--person", address, "--dry-run")
    assert done.exit_code == 0
    assert f"{LOG}: " in done.output
    assert command.run(filled, "erase", "--person", address, *WHY).exit_code == 1
    assert command.files(filled) == before
    nobody = command.run(filled, "erase", "--person", "nobody@example.com", "--dry-run")
    assert nobody.output == "no record was found\n"


def test_deliveries_that_wait_are_stored_first(filled):
    waiting = filled / "data/spool/okta/00000000000000000001-1-0.push"
    waiting.parent.mkdir(parents=True)
    waiting.write_bytes(b"{}")
    done = command.run(filled, "erase", "--person", person(filled), *WHY, "--yes")
    waiting.unlink()
    assert (done.exit_code, "1 deliveries wait in" in done.output) == (1, True)


def test_single_events_are_erased(filled):
    first = events(filled)["event_id"][0]
    done = command.run(filled, "erase", "--integration", "okta", "--event", first, *WHY, "--yes")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "1 record erased and recorded")
    assert first not in events(filled)["event_id"].to_list()


def test_a_persons_records_are_erased_and_the_lake_is_verified(filled):
    address = person(filled)
    done = command.run(filled, "erase", "--person", address, *WHY, "--yes")
    assert (done.exit_code, "records erased and recorded" in done.output) == (0, True)
    assert events(filled).filter(pl.col("actor_email") == address).is_empty()
    verified = command.run(filled, "verify", "--full")
    assert verified.exit_code == 0
    assert "erased on request" in verified.output
    assert command.run(filled, "maintain").exit_code == 0
    assert command.run(filled, "verify").exit_code == 0
