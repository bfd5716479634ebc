"""Progress is shown per stream once there is some, and leaves no trace behind."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from pipelines.cli import progress
from pipelines.extraction.report import Report


def report(stream="system_log", rows=1200, oldest=None):
    return Report(integration="okta", stream=stream, rows=rows, oldest=oldest)


@pytest.mark.parametrize(
    ("oldest", "line"),
    [
        (None, "okta system_log: 1,200 new"),
        (datetime(2026, 3, 1, tzinfo=UTC), "okta system_log: 1,200 new, back to 2026-03-01"),
    ],
)
def test_a_line_has_the_new_rows_and_how_far_back_they_reach(oldest, line):
    assert progress.line(report(oldest=oldest)) == line


def test_a_wrong_clock_is_named():
    shown = progress.line(replace(report(), clock_ahead=timedelta(days=3)))
    assert "this machine's clock is 3 d 0 h ahead; the service's clock is used" in shown


def test_a_short_round_prints_nothing():
    printed = []
    update = progress.lines(printed.append)
    for rows in range(100):
        update(report(rows=rows))
    assert printed == []


def test_a_long_round_prints_each_stream_by_itself(monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    printed = []
    update = progress.lines(printed.append)
    for rows in (1, 2):
        for stream in ("a", "b"):
            update(report(stream, rows))
    assert printed[-2:] == ["okta a: 2 new", "okta b: 2 new"]


def test_bars_show_the_streams_of_many_threads_once_each_and_disappear():
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, height=40)
    with progress.bars(console) as update, ThreadPoolExecutor(8) as pool:
        streams = [f"stream_{number}" for number in range(8)]
        list(pool.map(lambda stream: update(report(stream)), streams * 20))
    last = shown.getvalue()[shown.getvalue().rindex("stream_0: 1,200 new") :]
    assert [last.count(stream) for stream in streams] == [1] * 8
    assert last.endswith("\x1b[1A\x1b[2K")  # the line above is erased, and nothing follows


def test_a_step_is_shown_on_a_terminal_only_and_nothing_of_it_is_obeyed():
    shown = io.StringIO()
    with progress.step(Console(file=shown, force_terminal=True)) as show:
        show("okta [bold]x\x1b[2J")
    assert "okta [bold]x[U+001B][2J" in shown.getvalue()
    plain = io.StringIO()
    with progress.step(Console(file=plain)) as show:
        show("okta")
    assert plain.getvalue() == ""
