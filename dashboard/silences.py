"""Exceptions that analysts make from a finding: the fields to choose, and their effect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from dashboard.sight import Sight
from pipelines.detections import exceptions
from pipelines.detections.evaluate import EVENT
from pipelines.detections.exceptions import RuleException
from pipelines.schemas import EVENTS

LONGEST = timedelta(days=90)
BEFORE = timedelta(days=90)
"""How far back the stored findings are counted that an exception would have covered."""
MOST = 5000
FIELDS = {
    "entity": "Entity",
    "actor_email": "Actor's address",
    "actor_name": "Actor's name",
    "source_ip": "IP address",
    "country": "Country",
    "user_agent": "User agent",
    "action": "Action",
    "target_name": "Target",
    "target_id": "Target ID",
    "integration": "Integration",
    "stream": "Stream",
}
"""Columns of findings and events that are offered, with their labels."""


def offered(finding: Mapping[str, Any], events: pl.DataFrame) -> dict[str, str]:
    """Return the values that an exception can be about, by column.

    Columns of events are compared for findings of one event alone.
    """
    found = {"entity": finding["entity"]}
    if finding["count"] == 1 and events.height == 1:
        found |= {name: events[name][0] for name in FIELDS if name in events.columns}
    return {name: str(found[name]) for name in FIELDS if found.get(name)}


def required(sight: Sight, finding: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields that this visitor cannot leave out: a limited one silences their own."""
    return {"integration": finding["integration"]} if sight.limited else {}


def made(rule: str, fields: Mapping[str, str], expires: datetime) -> RuleException:
    """Return an exception that is not recorded yet."""
    pairs = tuple((name, (value,)) for name, value in sorted(fields.items()))
    return RuleException(
        id=exceptions.digest(rule, {name: [value] for name, value in fields.items()}),
        rule_id=rule,
        fields=pairs,
        owner="",
        reason="",
        expires=expires,
    )


def row(exception: RuleException, who: str, owner: str, reason: str) -> dict[str, Any]:
    """Return a row of the table `exceptions`, without its time."""
    fields = [{"field": name, "value": one} for name, values in exception.fields for one in values]
    return {
        "who": who,
        "exception": exception.id,
        "rule_id": exception.rule_id,
        "fields": fields,
        "owner": owner.strip(),
        "reason": reason.strip(),
        "expires": exception.expires,
    }


def of_rule(rows: pl.LazyFrame, rule: str, since: datetime) -> pl.DataFrame:
    """Return the newest revisions of a rule's findings since then, with all columns."""
    recent = rows.filter(
        pl.col("date") >= since.date(), pl.col("time") >= since, pl.col("rule_id") == rule
    )
    kept = recent.sort("revision", "seq").unique("finding_uid", keep="last")
    return kept.filter(pl.col("status") != "withdrawn").top_k(MOST, by="time").collect()


def looked_at(
    events: pl.LazyFrame,
    uids: tuple[str, ...],
    since: datetime,
    until: datetime,
    names: tuple[str, ...],
) -> pl.DataFrame:
    """Return these columns of the events with these uids, between two times."""
    dated = pl.col("date").is_between(since.date(), until.date())
    listed = pl.Series(uids, dtype=pl.String)
    kept = events.filter(dated, pl.col("event_uid").is_in(listed.implode()))
    return kept.select("event_uid", *names).collect()


def columns(exception: RuleException) -> tuple[str, ...]:
    """Return the columns of events that the exception looks at."""
    return tuple(name for name, _ in exception.fields if name in EVENTS)


def covered(found: pl.DataFrame, events: pl.DataFrame, exception: RuleException) -> int:
    """Return how many findings the exception would have applied to; `events` are those of them."""
    renamed = events.rename({name: f"{EVENT}{name}" for name in columns(exception)})
    joined = found.with_columns(event_uid=pl.col("event_uids").list.first()).join(
        renamed.unique("event_uid"), on="event_uid", how="left"
    )
    return exceptions.excepted(joined, [exception])["exception"].count()


def active(rows: pl.DataFrame, sight: Sight, now: datetime) -> pl.DataFrame:
    """Return the exceptions in force that a visitor may see, those that expire first first."""
    newest = rows.unique("exception", keep="last", maintain_order=True)
    kept = newest.filter(pl.col("expires") > now)
    if sight.integrations is not None:
        theirs = pl.element().struct.field("field") == "integration"
        named = pl.element().struct.field("value").is_in(sorted(sight.integrations))
        kept = kept.filter(pl.col("fields").list.eval(theirs & named).list.any().fill_null(False))
    return kept.sort("expires", "exception")


def worded(fields: Iterable[Mapping[str, str]] | None) -> str:
    """Return the fields of an exception as text."""
    return " and ".join(f"{one['field']} = {one['value']}" for one in fields or ())


def revoked(one: Mapping[str, Any], who: str, now: datetime) -> dict[str, Any]:
    """Return a row of `exceptions` that ends one of them."""
    names = ("exception", "rule_id", "fields", "owner", "reason")
    return {**{name: one[name] for name in names}, "who": who, "expires": now}
