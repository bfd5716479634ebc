"""Facts that the logs of Entra ID and Office 365 share."""

from __future__ import annotations

from typing import Any

INTERRUPTS = frozenset(
    {16000, 16001, 50055, 50058, 50072, 50074, 50076, 50078, 50079, 50085, 50089, 50097, 50125,
     50127, 50129, 50132, 50133, 50140, 50144, 50158, 50173, 50199, 50203, 51006, 52004, 65001,
     70008, 70043, 70044, 70046, 700082, 700084, 9002341}
)  # fmt: skip
"""Errors of sign-ins that are to be continued: a second factor, a new password, a confirmation,
consent or a fresh session comes next, and another event follows."""


def is_interrupt(error: Any) -> bool:
    """Return whether an error number, perhaps as text, only interrupts a sign-in."""
    try:
        return int(error) in INTERRUPTS
    except (TypeError, ValueError, OverflowError):
        return False


def email(name: Any) -> str | None:
    """Return the e-mail in a user principal name or a name that SharePoint gives to a user.

    Guests are ann_fabrikam.example#EXT#@contoso.onmicrosoft.com, or urn:spo:guest#ann@fabrikam.example
    in SharePoint, where members may be i:0#.f|membership|ann@contoso.example.
    """
    if not isinstance(name, str) or "@" not in name:
        return None
    bare = name.rpartition("|")[2].replace("%3a", ":")
    if bare.lower().startswith("urn:spo:"):
        bare = bare.partition("#")[2]
    home, guest, _ = bare.partition("#EXT#")
    before, _, domain = home.rpartition("_")
    return f"{before}@{domain}" if guest and before else bare


def unquoted(value: Any) -> str | None:
    """Return the text of a value in a change list, which is JSON text such as "\\"Admins\\""."""
    if not isinstance(value, str):
        return None
    return value.strip().removeprefix("[").removesuffix("]").strip().strip('"') or None
