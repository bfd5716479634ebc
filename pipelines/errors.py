"""What can go wrong, classed by how one recovers; every message says what to do next."""

from __future__ import annotations


class AuditlakeError(Exception):
    """Something the operator has to know, in one line, free of secrets."""


class ConfigurationError(AuditlakeError):
    """The configuration has to be changed; nothing was done."""


class Refused(AuditlakeError):
    """The vendor says no: a credential, a permission or a plan is missing, or a request is odd."""

    def __init__(self, message: str, *, status: int = 0, body: bytes = b"") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Unavailable(AuditlakeError):
    """The vendor could not be reached or kept failing; asking again later is enough."""


class TooSlow(Unavailable):
    """The vendor kept giving up on a question (504); a smaller one may be answered."""


class ForeignLink(AuditlakeError):
    """A vendor's answer points to another host, where our credential must not go."""


class CursorRefused(AuditlakeError):
    """The vendor no longer knows a position; the stream has to find its place again."""


class LakeError(AuditlakeError):
    """The lake cannot be read or written as it should be."""
