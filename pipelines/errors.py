"""Errors, grouped by how to recover from them; every message names the next step."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_log = logging.getLogger(__name__)

NOT_LICENSED = "not licensed"
"""Begins the advice for a refusal that only another plan of the vendor can end."""


class AuditlakeError(Exception):
    """An error to show to the operator: one line, without secrets."""


class ConfigurationError(AuditlakeError):
    """The configuration is invalid; nothing was done."""


class Refused(AuditlakeError):
    """The vendor refused a request: credential, permission, plan or the request itself is wrong."""

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Held(Refused):
    """A request that changes something at the vendor was not sent, for now or by this command."""


class SignInRefused(Refused):
    """The vendor refused the sign-in, so all streams of the integration fail alike."""


class Unavailable(AuditlakeError):
    """The vendor could not be reached or kept failing; a later retry is enough."""


class TooHeavy(Unavailable):
    """The vendor kept failing or timing out (500, 502, 504); a smaller range may succeed."""


class ClockChanged(Unavailable):
    """A response shows another time than the round assumed; the round must start again."""


class ForeignLink(AuditlakeError):
    """A vendor's response links to another host, where our credential must not be sent."""


class CursorRefused(AuditlakeError):
    """The vendor no longer accepts a cursor; the stream must restart from a time."""


class Unexpected(AuditlakeError):
    """An error that nobody foresaw; it ends the round of its stream only."""


class TooLarge(TooHeavy):
    """A response is larger than `page_megabytes`; one for a smaller range may be accepted."""


class LakeError(AuditlakeError):
    """The lake cannot be read or written."""


class NewerLake(LakeError, ConfigurationError):
    """A newer auditlake has written the lake, so this one leaves it alone."""


@contextmanager
def raised_as(error_of: Callable[[BaseException], AuditlakeError]) -> Iterator[None]:
    """Raise the error that `error_of` returns in place of one that nobody foresaw."""
    try:
        yield
    except AuditlakeError:
        raise
    except BaseException as error:
        # Panics of Rust derive from BaseException, and each library has a class of its own.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        _log.debug("unexpected error", exc_info=True)
        raise error_of(error) from error


def explained() -> AbstractContextManager[None]:
    """Raise Unexpected for an error that nobody foresaw, so that it ends this block only.

    Its own message is not shown, because it may contain a record or a credential.
    """
    return raised_as(_unexpected)


def _unexpected(error: BaseException) -> Unexpected:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {where.name}, line {where.lineno}"
    return Unexpected(f"unexpected error ({place}); the next round retries")


def faults(error: ValidationError, where: str) -> list[str]:
    """Return one line per value of a configuration that is not valid; none shows the value."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in fault["loc"])
        problem = {
            "extra_forbidden": "unknown key: correct or remove it",
            "missing": "missing: set it",
        }.get(fault["type"], _plain(fault["msg"]))
        lines.append(f"{where}: {key}: {problem}" if key else f"{where}: {problem}")
    return lines


def _plain(text: str) -> str:
    """Return a validation error in the words of a configuration file."""
    text = text.removeprefix("Value error, ").replace("Input should be", "it must be")
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    return text


_WORDS = {
    "a valid string": "text",
    "a valid tuple": "a list",
    "a valid dictionary": "a table",
    "a valid boolean": "true or false",
}
