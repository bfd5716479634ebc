"""Who is alerted to a finding or a problem, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Literal

from pipelines.detections.alerts.message import severity
from pipelines.settings.alerts import AlertSettings, QuietHours, Route

Way = Literal["now", "digest"]
_DAY = timedelta(days=1)


def of_finding(chosen: AlertSettings, row: Mapping[str, Any]) -> dict[str, Way]:
    """Return who is alerted to a finding (schemas.FINDINGS), and whether only by the digest."""
    names, tags = {row["integration"], row["kind"]}, row["tags"] or ()
    return _ways(
        route
        for route in _routes(chosen, "findings", row["level"], names)
        if not route.tags or _is_tagged(route.tags, tags)
    )


def of_problem(chosen: AlertSettings, level: str, names: AbstractSet[str]) -> list[str]:
    """Return who is alerted to a problem of auditlake itself, which waits for no digest.

    `names`: the integration and its kind; none of a problem that is not of one.
    """
    return list(_ways(_routes(chosen, "health", level, names)))


def _routes(
    chosen: AlertSettings, about: str, level: str, names: AbstractSet[str]
) -> Iterable[Route]:
    for route in chosen.effective_routes:
        if about not in route.about or severity(level) < severity(route.level):
            continue
        if not names or not route.integrations or names & set(route.integrations):
            yield route


def _ways(routes: Iterable[Route]) -> dict[str, Way]:
    found: dict[str, Way] = {}
    for route in routes:
        for name in route.receivers:
            if found.get(name) != "now":
                found[name] = "digest" if route.digest else "now"
    return found


def _is_tagged(wanted: Sequence[str], tags: Sequence[str]) -> bool:
    prefixes = tuple(tag[:-1] for tag in wanted if tag.endswith("*"))
    return any(tag in wanted or (prefixes and tag.startswith(prefixes)) for tag in tags)


def next_digest(at: time, zone: tzinfo, now: datetime) -> datetime:
    """Return the next time of the daily digest, in UTC."""
    today = now.astimezone(zone).date()
    due = _local(today, at, zone)
    return due if due > now else _local(today + _DAY, at, zone)


def not_before(quiet: QuietHours | None, zone: tzinfo, level: str, now: datetime) -> datetime:
    """Return the end of the quiet hours if a message of this level waits for it, else `now`."""
    if quiet is None or severity(level) >= severity(quiet.unless):
        return now
    here = now.astimezone(zone)
    clock = here.time()
    if quiet.since <= quiet.until:
        within = quiet.since <= clock < quiet.until
    else:  # over midnight
        within = clock >= quiet.since or clock < quiet.until
    if not within:
        return now
    end = _local(here.date(), quiet.until, zone)
    return end if end > now else _local(here.date() + _DAY, quiet.until, zone)


def _local(day: date, at: time, zone: tzinfo) -> datetime:
    return datetime.combine(day, at, zone).astimezone(UTC)
