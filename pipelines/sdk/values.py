"""Values of records that mean nothing, and lists with odd elements."""

from __future__ import annotations

from typing import Any

NOTHING = frozenset(
    {"", "-", "--", "(null)", "<null>", "N/A", "n/a", "Not Available", "not available", "null",
     "undefined", "unknown"}
)  # fmt: skip
"""Whole values that services write where they have none; "Null" may be a person's name."""


def known(value: Any) -> Any:
    """Return the value, or None for an empty one and for a word that means nothing."""
    return value if value and not (isinstance(value, str) and value in NOTHING) else None


def first(*values: Any) -> Any:
    """Return the first known value."""
    for value in values:
        if value and not (isinstance(value, str) and value in NOTHING):
            return value
    return None


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list, without odd elements; none if it is not a list."""
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]
