"""The days on which credentials expire and services shut down, as far as they are known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from pydantic import SecretStr

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of a credential or of a service, before which an operator has to act."""

    what: str
    """Such as "the API token"."""
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    advice: str
    """The next step, such as "create a new one and set api_token"."""
    ahead: timedelta = timedelta(days=30)
    """How long before the end it is time to act."""


def reported(what: str, at: Any, advice: str) -> list[Ending]:
    """Return the end at a time that a service reports, or none if this is no time."""
    try:
        time = datetime.fromisoformat(at)
    except (TypeError, ValueError):
        return []
    return [Ending(what=what, at=time if time.tzinfo else time.replace(tzinfo=UTC), advice=advice)]


def of_certificate(pem: SecretStr, advice: str) -> list[Ending]:
    """Return the end of the first certificate in a PEM, or none if there is no certificate."""
    from cryptography import x509  # noqa: PLC0415 slow to import, and few sources need it

    found = _CERTIFICATE.search(pem.get_secret_value())
    try:
        certificate = x509.load_pem_x509_certificate(found[0].encode()) if found else None
    except ValueError:
        return []
    if certificate is None:
        return []
    return [Ending(what="the certificate", at=certificate.not_valid_after_utc, advice=advice)]
