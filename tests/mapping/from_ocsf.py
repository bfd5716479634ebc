"""The way back from OCSF events to the rows they were made from."""

from collections.abc import Iterable, Sequence

import polars as pl

from pipelines.mapping.ocsf_export import Event, Row
from pipelines.schemas import EVENTS

_OUTCOMES = ("unknown", "success", "failure")  # by status_id
_METADATA = {
    "event_uid": "uid",
    "event_id": "original_event_uid",
    "action": "event_code",
    "integration": "log_provider",
    "stream": "log_name",
    "seq": "sequence",
    "correlation_id": "correlation_uid",
}
_PERSONS = {1: "user", 3: "system", 4: "service"}


def from_ocsf(events: Iterable[Event]) -> pl.DataFrame:
    """Return the rows that `to_ocsf` made these events from."""
    frame = pl.DataFrame(
        [_row(event) for event in events],
        schema={**EVENTS, "time": pl.Int64(), "ingested_at": pl.Int64()},
    )
    times = pl.col("time", "ingested_at").cast(EVENTS["time"])
    return frame.with_columns(times).with_columns(pl.col("time").dt.date().alias("date"))


def _row(event: Event) -> Row:
    aside, metadata = event["unmapped"], event["metadata"]
    filled = aside.get("filled", ())
    actor = {} if "actor" in filled else event.get("actor", {})
    source = {} if "src_endpoint" in filled else event.get("src_endpoint", {})
    return {
        **{ours: metadata.get(name) for ours, name in _METADATA.items()},
        "time": event["time"] * 1000 + aside.get("time_us", 0),
        "ingested_at": metadata["logged_time"] * 1000 + aside.get("ingested_at_us", 0),
        "kind": metadata["product"]["name"],
        "class_uid": event["class_uid"],
        "activity_id": event["activity_id"],
        "activity_type": event["class_name"],
        "action_type": event["activity_name"],
        "outcome": _OUTCOMES[event["status_id"]],
        "outcome_reason": event.get("status_detail"),
        "message": event.get("message"),
        "session_id": actor.get("session", {}).get("uid"),
        "user_agent": event.get("http_request", {}).get("user_agent"),
        "source_ip": source.get("ip"),
        **source.get("location", {}),
        **_actor_columns(actor.get("user", {}), filled),
        **_target_columns(aside),
        **{name: value for name, value in aside.items() if name in EVENTS},
    }


def _actor_columns(user: Event, filled: Sequence[str]) -> Event:
    return {
        "actor_id": user.get("uid"),
        "actor_name": None if "actor.user.name" in filled else user.get("name"),
        "actor_email": user.get("email_addr"),
        "actor_type": _PERSONS.get(user.get("type_id", 99), user.get("type")),
    }


def _target_columns(aside: Event) -> Event:
    targets = aside.get("targets", [])
    target = aside.get("target", 0 if targets else {})
    found = targets[target] if isinstance(target, int) else target
    columns = {f"target_{key}": found.get(key) for key in ("id", "name", "type")}
    return {"targets": targets, **columns}
