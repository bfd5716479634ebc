"""The fields to filter, group and search by: columns of `events`, plus `actor` and `target`.

Those two are the best name that a record has, so that analysts read and filter the same text,
whichever columns the vendor fills in.
"""

from __future__ import annotations

import polars as pl

from pipelines.schemas import EVENTS

_BEST_OF = {
    "actor": ("actor_email", "actor_name", "actor_id"),
    "target": ("target_name", "target_id"),
    "title": ("message", "action"),
}
_NOT_FIELDS = {"time", "date", "ingested_at", "targets"}
NAMES = ("actor", "target", *(name for name in EVENTS if name not in _NOT_FIELDS))
ALIASES = {
    "activity": "activity_type",
    "email": "actor_email",
    "ip": "source_ip",
    "reason": "outcome_reason",
    "result": "outcome",
    "service": "kind",
    "source": "integration",
    "user": "actor",
}
FILTERS = ("integration", "actor", "activity_type", "action")
MORE_FILTERS = ("outcome", "target", "source_ip", "country")
GROUPS = ("activity_type", "integration", "action_type", "actor", "outcome")
_LABELS = {
    "activity_type": "Activity",
    "actor_id": "Actor ID",
    "event_id": "Event ID",
    "event_uid": "Event UID",
    "class_uid": "OCSF class",
    "activity_id": "OCSF activity",
    "correlation_id": "Correlation ID",
    "session_id": "Session ID",
    "source_ip": "IP address",
    "target_id": "Target ID",
}
NONE = "(none)"


def label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def columns(name: str) -> tuple[str, ...]:
    """Return the columns of `events` that field `name` is read from."""
    return _BEST_OF.get(name, (name,))


def value(name: str) -> pl.Expr:
    """Return field `name` as text; null where it is empty or missing."""
    return pl.coalesce([_text(column) for column in columns(name)]).alias(name)


def shown(text: str) -> str:
    """Return `text`, or a visible placeholder for "", which represents an absent value."""
    return text or NONE


def resolve(name: str) -> str | None:
    """Return the field called `name`, an alias included, in any case; None if there is none."""
    name = name.lower()
    known = ALIASES.get(name, name)
    return known if known in NAMES else None


def _text(column: str) -> pl.Expr:
    if not isinstance(EVENTS[column], pl.String):
        return pl.col(column).cast(pl.String)
    # Vendors send both "" and null for an absent value.
    return pl.when(pl.col(column) != "").then(pl.col(column))
