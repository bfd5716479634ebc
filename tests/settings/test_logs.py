"""A line of the log is one line, whatever it quotes, and shows no text of an exception."""

import json
import logging
import sys

import pytest

from pipelines.settings.logs import JsonFormatter, TextFormatter

HOSTILE = 'okta: "x"}\n{"level": "error", "message": "forged"}\r\u2028\u202eevil \x1b[31m ü'


def fails():
    raise ValueError("the token is hunter2")


def record(message, *args):
    try:
        fails()
    except ValueError:
        exception = sys.exc_info()
    return logging.LogRecord("pipelines.x", logging.WARNING, "x.py", 1, message, args, exception)


def test_json_is_one_object_a_line_that_quotes_exactly():
    line = JsonFormatter().format(record("%s", HOSTILE))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["message"] == HOSTILE
    assert (found["level"], found["logger"]) == ("warning", "pipelines.x")
    assert found["time"].endswith("Z")


def test_text_marks_characters_that_end_the_line_or_deceive():
    line = TextFormatter().format(record("%s", HOSTILE))
    assert len(line.splitlines()) == 1
    assert "[U+202E]" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_its_type_and_place(formatter):
    line = formatter.format(record("unexpected"))
    assert "ValueError in fails, line" in line
    assert "hunter2" not in line
    assert len(formatter.format(record("%s", "x" * 100_000))) < 9_000
