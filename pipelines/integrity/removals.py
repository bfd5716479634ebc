"""Reads the recorded acts, and finds out whether retention removed missing rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import polars as pl

from pipelines.integrity import merkle, tiles
from pipelines.integrity.files import Folder
from pipelines.integrity.merkle import WIDTH
from pipelines.integrity.note import Head

FINISHED = "retention finished"
"""The act that the rows of all removals among the first `acts` ones are deleted."""
RESTORED = "restore"
"""The act that a table is replaced by that of a backup; it lists the rows that are lost."""
Spans = list[tuple[int, int]]
"""Spans of rows, as (first, until)."""


def cover(acts: Folder, signed: Head, log: Folder, table: str, rows: range) -> bool:
    """Return True if the acts under the checkpoint `signed` removed all of `rows` from `table`."""
    at = rows.start
    for first, until in spans(acts, signed, log, table):
        if first <= at:
            at = max(at, until)
    return at >= rows.stop


def spans(acts: Folder, signed: Head, log: Folder, table: str) -> Spans:
    """Return the spans of rows that the acts removed, sorted; they may overlap."""
    return sorted({span for act in by_act(acts, signed, log, table) for span in act})


def by_act(acts: Folder, signed: Head, log: Folder, table: str) -> list[Spans]:
    """Return the spans of rows that each act removed, the oldest act first."""
    done = recorded(acts, signed) or ()
    ours = [act for act in done if act.get("table") == table and "rows_sha256" in act]
    return [spans for spans in (listed(log, act) for act in ours) if spans is not None]


def listed(log: Folder, act: Mapping[str, Any]) -> Spans | None:
    """Return the spans of rows that an act lists; None if the list is missing or altered.

    It lies outside the signed log; the act only holds its hash.
    """
    found = log.get(f"removed/{act['rows_sha256']}.json") or b""
    if sha256(found).hexdigest() != act["rows_sha256"]:
        return None
    return [(first, until) for first, until in json.loads(found)]


def recorded(acts: Folder, signed: Head) -> list[dict[str, Any]] | None:
    """Return the acts under the checkpoint `signed`, oldest first; None if they were altered."""
    bundles = range(-(-signed.size // WIDTH))
    entries = [each for index in bundles for each in tiles.entries(acts, signed.size, index)]
    edge, _ = merkle.grown((), 0, [merkle.leaf(entry) for entry in entries])
    return [json.loads(each) for each in entries] if merkle.root(edge) == signed.root else None


def unfinished(acts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the removals, among all acts, whose rows may still be there, oldest first.

    A restored table may have the rows of all removals before.
    """
    kinds = [act.get("act") for act in acts]
    restored = len(kinds) - kinds[::-1].index(RESTORED) if RESTORED in kinds else 0
    done = max((act["acts"] for act in acts[restored:] if act.get("act") == FINISHED), default=0)
    return [act for act in acts[done:] if "rows_sha256" in act and act.get("act") != RESTORED]


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Return the same rows in spans that neither overlap nor touch, ascending."""
    found: Spans = []
    for first, until in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(until, found[-1][1])
        else:
            found.append((first, until))
    return found


def within(seq: pl.Expr, spans: Iterable[tuple[int, int]]) -> pl.Expr:
    """Return the condition that a row is in one of the spans."""
    listed = [seq.is_between(first, until, "left") for first, until in merged(spans)]
    return pl.any_horizontal(pl.lit(value=False), *listed)
