"""The fields an analyst filters, groups and searches by: columns of `events`, and who and what.

`actor` and `target` are not columns: they are the best name that the record offers, so that a
person reads and filters the same thing whatever the vendor filled in.
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
    """The columns of `events` that field `name` is read from."""
    return _BEST_OF.get(name, (name,))


def value(name: str) -> pl.Expr:
    """What field `name` says, as text; null where it says nothing."""
    return pl.coalesce([_text(column) for column in columns(name)]).alias(name)


def shown(text: str) -> str:
    """An absent value, which travels as "", by a name that can be seen."""
    return text or NONE


def resolve(name: str) -> str | None:
    """The field that a person means by `name`; None where there is none."""
    name = name.lower()
    known = ALIASES.get(name, name)
    return known if known in NAMES else None


def _text(column: str) -> pl.Expr:
    if not isinstance(EVENTS[column], pl.String):
        return pl.col(column).cast(pl.String)
    return pl.when(pl.col(column) != "").then(pl.col(column))
