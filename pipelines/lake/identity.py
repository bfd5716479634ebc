"""Which account belongs to which person, as the vendors' records assert it. Pure.

A person is an e-mail address, an account an id of one integration. Only a record that shows both
links them, and only if the vendor assigned the id and no user can edit either of them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import polars as pl

from pipelines.schemas import IDENTITIES

_PAIR = ("integration", "kind", "actor_id", "actor_email")
_OF_PEOPLE = ("user", "api_key")
_ROW = ["integration", "identifier", "value", "person"]


@cache
def _asserted() -> list[tuple[str, str, str]]:
    """Return (kind, identifier, pattern) per kind of account whose ids the vendor assigns."""
    # Not with Polars when this is imported: its threads would not survive a fork.
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [(row["kind"], row["identifier"], row["pattern"]) for row in rows if row["pattern"]]


def pairs(events: pl.LazyFrame, *by: str) -> pl.LazyFrame:
    """Return each account that an event shows with an address: by, _PAIR, since, until.

    A failed sign-in may show what somebody typed, and a program's address is nobody's.
    """
    typed = (pl.col("activity_type") == "Authentication") & (pl.col("outcome") == "failure")
    shown = events.filter(
        pl.col("actor_type").is_in(_OF_PEOPLE),
        typed.not_().fill_null(True),
        pl.col("actor_email").str.contains("@", literal=True),
        pl.col("actor_id") != "",
    )
    return shown.group_by(*by, *_PAIR).agg(since=pl.col("time").min(), until=pl.col("time").max())


def identities(found: Iterable[pl.LazyFrame]) -> pl.DataFrame:
    """Return the rows of schemas.IDENTITIES for the `pairs` of any number of files, sorted."""
    merged = (
        pl.concat(frame.select(*_PAIR, "since", "until") for frame in found)
        .group_by(_PAIR)
        .agg(pl.col("since").min(), pl.col("until").max())
        .rename({"actor_id": "value", "actor_email": "person"})
        .rename({"since": "first_event", "until": "last_seen"})
        .collect(engine="streaming")
    )
    asserted = [
        merged.filter(pl.col("kind") == kind, _assigned(pattern)).with_columns(
            identifier=pl.lit(identifier)
        )
        for kind, identifier, pattern in _asserted()
    ]
    # One instance has one kind: were it ever another, the same account would be listed twice.
    rows = pl.concat(asserted).group_by(_ROW).agg(
        pl.col("first_event").min(), pl.col("last_seen").max()
    )  # fmt: skip
    return rows.select(pl.col(name).cast(dtype) for name, dtype in IDENTITIES.items()).sort(_ROW)


def _assigned(pattern: str) -> pl.Expr:
    # An id of zeros stands for nobody.
    return pl.col("value").str.contains(f"^(?:{pattern})$") & pl.col("value").str.contains("[^0-]")
