"""The fields to search and filter by: columns of `events`, plus `actor` and `target`.

Those two are the best name that a record has, so that analysts read and filter the same text,
whichever columns the vendor fills in. An actor without an address has that of the person to whom
`people` resolves the account.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

import polars as pl

from pipelines.schemas import EVENTS
from pipelines.search.people import PERSON

_BEST_OF = {
    "actor": ("actor_email", PERSON, "actor_name", "actor_id"),
    "target": ("target_name", "target_id"),
    "title": ("message", "action"),
}
TIMES = ("time", "ingested_at")
"""The fields that are compared rather than matched."""
_NOT_FIELDS = {*TIMES, "date", "targets"}
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
TARGET, TARGETS = "target", "targets"
SEARCHED = (
    "message",
    "action",
    "activity_type",
    "action_type",
    "actor_email",
    "actor_name",
    "actor_id",
    "target_name",
    "target_id",
    "source_ip",
    "user_agent",
    "outcome_reason",
    "integration",
    "event_id",
    "session_id",
    "correlation_id",
)
"""The columns that a text search covers, in addition to the names of `targets`."""


def columns(name: str) -> tuple[str, ...]:
    """Return the columns of `events` that field `name` is read from."""
    return _BEST_OF.get(name, (name,))


def value(name: str) -> pl.Expr:
    """Return field `name` as text; null where it is empty or missing."""
    return pl.coalesce([_text(column) for column in columns(name)]).alias(name)


def among(name: str, texts: Collection[str]) -> pl.Expr:
    """Return whether one of the texts is a value of field `name`; null if it has none.

    Every target counts, not only the first.
    """
    found = value(name).is_in(list(texts))
    if name != TARGET:
        return found
    others = pl.col(TARGETS).list.eval(of_target().is_in(list(texts))).list.any()
    return pl.when(others).then(True).otherwise(found)


def of_target() -> pl.Expr:
    """Return the best text of one of `targets`, as an expression on the elements of the list."""
    texts = (pl.element().struct.field(key) for key in ("name", "id"))
    return pl.coalesce(pl.when(text != "").then(text) for text in texts)


def exploded(events: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return the events with the column `value`: one row per value of the field; null for none."""
    if name != TARGET:
        return events.with_columns(value=value(name))
    nothing = pl.lit([], dtype=pl.List(pl.String))
    others = pl.col(TARGETS).list.eval(of_target()).fill_null(nothing)
    every = pl.concat_list(value(name), others).list.drop_nulls().list.unique(maintain_order=True)
    return events.with_columns(value=every).explode("value", empty_as_null=True)


def resolve(name: str) -> str | None:
    """Return the field called `name`, an alias included, in any case; None if there is none."""
    name = name.lower()
    known = ALIASES.get(name, name)
    return known if known in NAMES else None


def nearest(name: str) -> str | None:
    """Return the known name that is most similar to `name`; None if none is similar."""
    plain = name.lower().replace("-", "_").replace(".", "_")
    found = difflib.get_close_matches(plain, (*NAMES, *ALIASES, *TIMES), n=1)
    return found[0] if found else None


def _text(column: str) -> pl.Expr:
    if column == PERSON:
        # As a pattern, it is no error where nobody resolved persons: the record alone counts then.
        return pl.col(f"^{PERSON}$")
    if not isinstance(EVENTS[column], pl.String):
        return pl.col(column).cast(pl.String)
    # Vendors send both "" and null for an absent value.
    return pl.when(pl.col(column) != "").then(pl.col(column))
