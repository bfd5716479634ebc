"""A query of the page in the query language, in which commands and evidence packs take it."""

from __future__ import annotations

from collections.abc import Iterable

from dashboard.queries import Query
from pipelines.search import parser


def as_search(query: Query) -> str:
    """Return the search that finds the query's events within its time range; "" for all."""
    text = query.text.strip()
    groups: dict[tuple[str, bool], list[str]] = {}
    for one in query.filters:
        groups.setdefault((one.field, one.negated), []).append(one.value)
    for (field, negated), values in groups.items():
        text = parser.both(text, _filter(field, values, negated=negated))
    if query.held:
        text = parser.both(text, f'ingested_at<"{query.held.isoformat()}"')
    return text


def _filter(field: str, values: Iterable[str], *, negated: bool) -> str:
    # "=" and quotes: exactly these values, as a filter means them.
    listed = ", ".join(_quoted(value) for value in values)
    return f"{'-' if negated else ''}{field}=({listed})"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
