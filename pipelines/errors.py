"""Errors, grouped by how to recover from them; every message names the next step."""

from __future__ import annotations


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


class Unavailable(AuditlakeError):
    """The vendor could not be reached or kept failing; a later retry is enough."""


class TooSlow(Unavailable):
    """The vendor kept timing out (504); a query for a smaller range may succeed."""


class ForeignLink(AuditlakeError):
    """A vendor's response links to another host, where our credential must not be sent."""


class CursorRefused(AuditlakeError):
    """The vendor no longer accepts a cursor; the stream must restart from a time."""


class LakeError(AuditlakeError):
    """The lake cannot be read or written."""
