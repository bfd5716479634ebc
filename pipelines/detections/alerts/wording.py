"""The texts of an alert for people: short lines without control characters, markup or live links.

Events quote whatever an attacker wrote, so every text is shown by `plain`, and each receiver
escapes the result for its own format as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from pipelines import visible
from pipelines.detections.alerts.message import MOST_SHOWN, Alert, Shown

_SAFE_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,500}")
_MOST_FIELDS = 8


def plain(text: str | None, most: int = 300) -> str:
    """Return a text on one line, with deceptive characters marked and addresses not clickable."""
    # Cut before, too: marks make a text longer, and it may be a megabyte.
    line = visible.text((text or "")[: 2 * most])
    return cut(line.replace("://", "[:]//"), most)


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def headline(alert: Alert, most: int = 200) -> str:
    """Return the alert in one line."""
    if alert.about == "digest":
        return cut(f"Digest: {alert.count:,} findings: {plain(alert.title)}", most)
    state = "RESOLVED" if alert.resolved else alert.level.upper()
    about = f": {plain(alert.entity, 100)}" if alert.entity else ""
    many = f" ({alert.count:,} findings)" if alert.count > 1 else ""
    return cut(f"[{plain(state, 20)}] {plain(alert.title, 120)}{about}{many}", most)


def lines(alert: Alert, dashboard: str | None = None) -> Iterator[str]:
    """Yield the alert line by line, without its headline."""
    if alert.about == "digest":
        yield from _of_digest(alert)
    elif alert.about == "findings":
        yield from _of_findings(alert)
    elif alert.text:
        yield plain(alert.text, 1000)
    if alert.since and alert.about == "health":
        yield f"Since: {_time(alert.since)}"
    if alert.rule:
        yield from _of_rule(alert)
    if link := link_of(alert, dashboard):
        yield f"Open: {link}"


def link_of(alert: Alert, dashboard: str | None) -> str | None:
    """Return the address of the newest finding in the dashboard."""
    if dashboard is None:
        return None
    if alert.shown and re.fullmatch(r"[0-9a-f]{64}", alert.shown[0].uid):
        return f"{dashboard}/findings?id={alert.shown[0].uid}"
    return f"{dashboard}/findings" if alert.about in ("findings", "digest") else dashboard


def rule_url(alert: Alert) -> str | None:
    """Return the address that describes the rule, if it is a plain one."""
    url = alert.rule.url if alert.rule else None
    return url if url and _SAFE_URL.fullmatch(url) else None


def _of_findings(alert: Alert) -> Iterator[str]:
    if alert.resolved:
        yield "Withdrawn: events that arrived late show that the rule does not match."
        return
    for each in alert.shown[:MOST_SHOWN]:
        yield from _of_one(each)
    if (more := alert.count - len(alert.shown[:MOST_SHOWN])) > 0:
        yield f"... and {more:,} more"


def _of_one(each: Shown) -> Iterator[str]:
    where = f"{each.integration}/{each.stream}"
    many = f", {each.events:,} events" if each.events > 1 else ""
    address = f", from {plain(each.source_ip, 60)}" if each.source_ip else ""
    yield f"{_time(each.time)}: {plain(each.message)} ({plain(where, 130)}{address}{many})"
    values = [
        f"{plain(match.field, 80)} = {plain(match.value, 120)}"
        for match in each.matched[:_MOST_FIELDS]
    ]
    if values:
        yield f"Matched: {'; '.join(values)}"


def _of_digest(alert: Alert) -> Iterator[str]:
    if alert.since and alert.until:
        yield f"Events from {_time(alert.since)} to {_time(alert.until)}"
    for line in alert.lines[: 2 * MOST_SHOWN]:
        yield f"{line.count:,} x [{plain(line.level.upper(), 20)}] {plain(line.title, 120)}"
    if (more := len(alert.lines) - 2 * MOST_SHOWN) > 0:
        yield f"... and {more:,} more rules"


def _of_rule(alert: Alert) -> Iterator[str]:
    rule = alert.rule
    if rule is None:
        return
    by = f" by {plain(rule.author, 120)}" if rule.author else ""
    terms = f" ({plain(rule.license, 60)})" if rule.license else ""
    yield f"Rule: {plain(rule.id, 80)}{by}{terms}"
    if rule.tags:
        yield f"Tags: {plain(', '.join(rule.tags), 200)}"
    if rule.url:
        yield f"About the rule: {rule_url(alert) or plain(rule.url)}"


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
