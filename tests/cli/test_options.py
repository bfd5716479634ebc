"""Times, streams and values as the commands take and print them."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipelines import registry
from pipelines.cli import options
from pipelines.errors import ConfigurationError


def parsed(text):
    return options.Time().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T12:00", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01 12:00:30.5+02:00", datetime(2026, 3, 1, 10, 0, 30, 500_000, tzinfo=UTC)),
        ("2026-03-01T00:30-05:45", datetime(2026, 3, 1, 6, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_in_utc_and_without_an_offset_it_is_taken_as_utc(text, expected):
    assert (parsed(text), parsed(text).tzinfo) == (expected, UTC)


offsets = st.integers(-23 * 60, 23 * 60).map(lambda m: timezone(timedelta(minutes=m)))


FIRST, LAST = datetime(1990, 1, 1), datetime(2090, 1, 1)  # noqa: DTZ001 hypothesis wants no zone


@given(st.datetimes(FIRST, LAST, timezones=offsets))
def test_the_offset_of_a_time_is_not_lost(time):
    assert parsed(time.isoformat()) == time
    assert parsed(time.isoformat()).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["yesterday", "", "2026-02-30", "2026-03-01T25:00", "1772323200.5"]
)
def test_another_text_is_refused_with_an_example(text):
    @click.command()
    @click.option("--since", type=options.Time())
    def command(since):
        raise AssertionError(since)

    done = CliRunner().invoke(command, ["--since", text])
    assert done.exit_code == 2
    assert f"{text!r} is not a valid time; use e.g. 2026-03-01" in done.output


def test_an_unknown_stream_is_refused_with_the_known_ones():
    okta = registry.kind("okta")
    assert options.stream(okta, "system_log").name == "system_log"
    with pytest.raises(ConfigurationError, match="no stream 'users': use one of system_log"):
        options.stream(okta, "users")


def test_times_are_printed_with_a_z_and_dates_as_they_are():
    assert options.json_value(datetime(2026, 3, 1, 12, tzinfo=UTC)) == "2026-03-01T12:00:00Z"
    assert options.json_value(date(2026, 3, 1)) == "2026-03-01"
    assert options.json_value(timedelta(minutes=5)) == "0:05:00"


def printed(show):
    return CliRunner().invoke(click.command()(show)).stdout


def test_a_line_stays_one_line_whatever_it_contains():
    show = lambda: options.echo("raw/okta: CHANGED: id \nok raw/okta \x1b[1A\x9b2K\u202e")  # noqa: E731
    assert printed(show) == (
        "raw/okta: CHANGED: id [U+000A]ok raw/okta [U+001B][1A[U+009B]2K[U+202E]\n"
    )


def test_the_columns_of_a_table_are_aligned_by_their_marks():
    show = lambda: options.print_table(["a", "b"], [["x\u200b", "1"], ["y", "2"]])  # noqa: E731
    assert printed(show).splitlines() == ["a          b", "x[U+200B]  1", "y          2"]


def test_every_command_prints_through_the_functions_that_mark():
    folder = Path(options.__file__).parent
    direct = re.compile(r"\bclick\.(?:secho|echo)\b|(?<![.\w])print\(|sys\.stdout\.write|\.style\(")
    found = [
        path.name
        for path in folder.glob("*.py")
        if path.name != "options.py" and direct.search(path.read_text())
    ]
    assert found == []
