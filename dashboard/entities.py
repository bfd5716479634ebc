"""Activity of a person, IP address, user agent, session or target in all integrations. Pure.

The events have the column `person`, so that records with only an account's ID belong to the person
whose account it is, as everywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl

from dashboard import fields
from pipelines.search.people import ACTOR, People

KINDS = {
    "actor": "Person or service",
    "source_ip": "IP address",
    "target": "Target",
    "user_agent": "User agent",
    "session_id": "Session",
}
RELATED = {
    "actor": ("source_ip", "target", "action", "user_agent"),
    "source_ip": ("actor", "target", "action", "user_agent"),
    "target": ("actor", "source_ip", "action", "outcome"),
    "user_agent": ("actor", "source_ip", "action", "target"),
    "session_id": ("actor", "source_ip", "action", "target"),
}
_ROW = ("title", "integration", "action", "actor", "outcome", "source_ip", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    kind: str
    value: str
    since: datetime | None = None
    """Only events since then, and before `until`."""
    until: datetime | None = None
    others: tuple[str, ...] = ()
    """Addresses that the account `value` stands for."""

    @property
    def values(self) -> tuple[str, ...]:
        return (self.value, *self.others)

    def resolved(self, people: People) -> Entity:
        """Return the entity with the address of the person if it is an account."""
        if self.kind != ACTOR:
            return self
        return replace(self, others=tuple(people.addresses([self.value])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    events: int
    failed: int
    first: datetime | None
    last: datetime | None
    integrations: int
    addresses: int
    actors: int
    countries: str


def known_as(events: pl.LazyFrame, entity: Entity) -> tuple[str, ...]:
    """Return the e-mail addresses of a bare name or ID, by way of the accounts that have both."""
    if entity.kind != "actor" or "@" in entity.value:
        return ()
    keys = ["integration", "actor_id"]
    named = pl.any_horizontal(pl.col("actor_name", "actor_id") == entity.value)
    accounts = events.filter(named).select(keys).unique().drop_nulls()
    address = fields.value("actor")
    found = (
        events.filter(address.str.contains("@", literal=True))
        .join(accounts, on=keys, how="semi")
        .select(address.unique())
    )
    return tuple(sorted(found.collect()["actor"]))


def profile(events: pl.LazyFrame, entity: Entity) -> Profile:
    row = (
        of(events, entity)
        .select(
            events=pl.len(),
            failed=(pl.col("outcome") == "failure").sum(),
            first=pl.col("time").min(),
            last=pl.col("time").max(),
            integrations=pl.col("integration").n_unique(),
            addresses=fields.value("source_ip").drop_nulls().n_unique(),
            actors=fields.value("actor").drop_nulls().n_unique(),
            countries=fields.value("country").drop_nulls().unique().sort().str.join(", "),
        )
        .collect()
        .row(0, named=True)
    )
    return Profile(**row)


def names(events: pl.LazyFrame, entity: Entity) -> pl.DataFrame:
    """Return a person's names per integration: integration, name, account, n, last."""
    return (
        of(events, entity)
        .group_by("integration", name="actor_name", account="actor_id")
        .agg(n=pl.len(), last=pl.col("time").max())
        .sort("integration", "n", descending=[False, True])
        .head(50)
        .collect()
    )


def hours(events: pl.LazyFrame, entity: Entity, zone: str) -> pl.DataFrame:
    """Return events by weekday (1 is Monday) and hour in `zone`: weekday, hour, n; 168 rows."""
    local = pl.col("time").dt.convert_time_zone(zone)
    counted = (
        of(events, entity)
        .group_by(weekday=local.dt.weekday(), hour=local.dt.hour())
        .agg(n=pl.len())
    )
    week = pl.LazyFrame({"weekday": range(1, 8)}, schema={"weekday": pl.Int8})
    day = pl.LazyFrame({"hour": range(24)}, schema={"hour": pl.Int8})
    every = week.join(day, how="cross").join(counted, on=["weekday", "hour"], how="left")
    return every.with_columns(pl.col("n").fill_null(0)).sort("weekday", "hour").collect()


def related(events: pl.LazyFrame, entity: Entity, field: str, most: int = 50) -> pl.DataFrame:
    """Return the values of `field` in the entity's events: value, n, failed, first, last."""
    return (
        fields.exploded(of(events, entity), field)
        .group_by("value")
        .agg(
            n=pl.len(),
            failed=(pl.col("outcome") == "failure").sum(),
            first=pl.col("time").min(),
            last=pl.col("time").max(),
        )
        .drop_nulls("value")
        .sort("n", "value", descending=[True, False])
        .head(most)
        .collect()
    )


def daily(events: pl.LazyFrame, entity: Entity) -> pl.DataFrame:
    """Return events per UTC day and integration: date, integration, n."""
    counted = of(events, entity).group_by("date", "integration").agg(n=pl.len())
    return counted.sort("date", "integration").collect()


def recent(events: pl.LazyFrame, entity: Entity, most: int = 100) -> pl.DataFrame:
    """Return the latest events of the entity, newest first."""
    return (
        of(events, entity)
        .select("event_uid", "date", "time", *(fields.value(name) for name in _ROW))
        .top_k(most, by="time")
        .sort("time", "event_uid", descending=True)
        .collect()
    )


def done_to(events: pl.LazyFrame, entity: Entity, most: int = 50) -> pl.DataFrame:
    """Return the newest events whose target is this person or account."""
    return (
        within(events, entity)
        .filter(fields.among("target", entity.values))
        .select("event_uid", "date", "time", *(fields.value(name) for name in _ROW))
        .top_k(most, by="time")
        .sort("time", "event_uid", descending=True)
        .collect()
    )


def suggestions(events: pl.LazyFrame, kind: str, part: str, most: int = 200) -> list[str]:
    """Return the values of `kind` that contain `part`, most frequent first."""
    value = pl.col("value")
    holds = value.str.contains_any([part], ascii_case_insensitive=True) if part else pl.lit(True)
    values = fields.exploded(events, kind).filter(holds)
    counted = values.group_by("value").agg(n=pl.len()).drop_nulls("value")
    found = counted.sort("n", "value", descending=[True, False]).head(most)
    return found.collect()["value"].to_list()


def within(events: pl.LazyFrame, entity: Entity) -> pl.LazyFrame:
    """Return the events in the time range that the entity is looked at in."""
    if entity.since is not None:
        # The date as well: it decides which files are read.
        events = events.filter(
            pl.col("date") >= entity.since.date(), pl.col("time") >= entity.since
        )
    if entity.until is not None:
        events = events.filter(pl.col("date") <= entity.until.date(), pl.col("time") < entity.until)
    return events


def of(events: pl.LazyFrame, entity: Entity) -> pl.LazyFrame:
    """Return the events with the entity's value, in its time range."""
    return within(events, entity).filter(fields.among(entity.kind, entity.values))
