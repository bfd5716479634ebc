"""The fields of a search, and how the dashboard names and offers them."""

from __future__ import annotations

from pipelines import visible
from pipelines.search.fields import (
    NAMES,
    TARGET,
    among,
    columns,
    exploded,
    nearest,
    resolve,
    value,
)

__all__ = [
    "FILTERS", "GROUPS", "MORE_FILTERS", "NAMES", "NONE", "TARGET",
    "among", "columns", "exploded", "label", "nearest", "resolve", "shown", "value",
]  # fmt: skip

FILTERS = ("integration", "actor", "activity_type", "action_type", "action")
MORE_FILTERS = ("outcome", "target", "source_ip", "country")
GROUPS = ("activity_type", "integration", "action_type", "actor", "outcome")
_LABELS = {
    "activity_type": "Activity",
    "actor_id": "Actor ID",
    "event_id": "Event ID",
    "event_uid": "Event UID",
    "ingested_at": "Arrived",
    "class_uid": "OCSF class",
    "activity_id": "OCSF activity",
    "correlation_id": "Correlation ID",
    "session_id": "Session ID",
    "source_ip": "IP address",
    "target_id": "Target ID",
    "title": "Event",
}
NONE = "(none)"


def label(name: str) -> str:
    return _LABELS.get(name, name.replace("_", " ").capitalize())


def shown(text: str) -> str:
    """Return `text` with deceptive characters marked; for "", an absent value, a placeholder."""
    return visible.text(text) or NONE
