"""The log of a long-running process, on standard error: lines of text, or JSON objects one a line.

Messages may quote others: what would end a line or deceive a reader is escaped, and exceptions are
reduced to their type and place, since their text may contain a record or a credential.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from pipelines import visible

LogFormat = Literal["text", "json"]
FORMATS: tuple[LogFormat, ...] = ("text", "json")
VARIABLE = "AUDITLAKE_LOG_FORMAT"
"""The environment variable by which child processes write the same format."""
_LONGEST = 8192

_Exception = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def configure(chosen: LogFormat, name: str | None = None) -> None:
    """Write warnings and errors of the logger `name`, or of all, unless a handler is set."""
    logger = logging.getLogger(name)
    if logger.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if chosen == "json" else TextFormatter())
    logger.addHandler(handler)
    logging.getLogger("auditlake").setLevel(logging.INFO)


def from_environment() -> LogFormat:
    return "json" if os.environ.get(VARIABLE) == "json" else "text"


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return visible.text(super().format(record)[:_LONGEST])

    def formatException(self, ei: _Exception) -> str:  # noqa: N802 the name is that of logging
        return _place(ei[1])


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_LONGEST],
        }
        if record.exc_info:
            line["exception"] = _place(record.exc_info[1])
        return json.dumps(line)  # escapes all but ASCII, so it is one line anywhere


def _place(error: BaseException | None) -> str:
    """Return the type of an exception and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
