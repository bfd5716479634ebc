"""Webhook authentication shared by several vendors."""

from __future__ import annotations

import base64
import binascii
import hmac

from pipelines.sdk.push import Headers


def same(given: str, secret: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())


def authorised(headers: Headers, secret: str) -> bool:
    """Check the Authorization header: the bare secret, a Bearer token or a Basic password."""
    scheme, _, rest = headers.get("authorization", "").strip().rpartition(" ")
    scheme = scheme.strip().lower()
    given = _password(rest) if scheme == "basic" else rest
    return scheme in ("", "bearer", "basic") and same(given, secret)


def _password(credentials: str) -> str:
    try:
        decoded = base64.b64decode(credentials, validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]
