"""Exceptions from rules: findings that are kept, but alert nobody until a day.

They depend on the time of events, not on the clock, so that a rule that is evaluated again finds
the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import polars as pl

from pipelines.detections import networks
from pipelines.detections.evaluate import EVENT
from pipelines.schemas import EVENTS, FINDINGS

_SCALARS = (pl.String, pl.Boolean, pl.Int32, pl.Int64)
_OF_EVENTS = frozenset(name for name, dtype in EVENTS.items() if dtype in _SCALARS)
_OF_FINDINGS = frozenset(name for name, dtype in FINDINGS.items() if dtype in _SCALARS)
_ADDRESS = "source_ip"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleException:
    """Events that a rule should not alert about, who answers for that, and until when."""

    id: str
    rule_id: str
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    """Column -> values of which it has to have one; all columns have to hold."""
    owner: str
    reason: str
    expires: datetime

    @property
    def text(self) -> str:
        """Return the fields as text."""
        return ", ".join(f"{name}={'|'.join(values)}" for name, values in self.fields)


def digest(rule_id: str, fields: Mapping[str, Sequence[str]]) -> str:
    """Return an id for an exception, the same for the same fields of the same rule."""
    text = json.dumps([rule_id, {name: sorted(fields[name]) for name in fields}], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_fields(names: Iterable[str]) -> None:
    """Raise ValueError unless there are fields, all of which an exception can be about."""
    given = [*names]
    if not given:
        raise ValueError("give at least one field; to silence the whole rule, disable it")
    for name in given:
        if name not in _OF_EVENTS | _OF_FINDINGS:
            raise ValueError(f"{name}: give columns of events or findings that hold a single value")


def recorded(rows: pl.DataFrame) -> tuple[RuleException, ...]:
    """Return the exceptions in rows of the table `exceptions`: the newest per id, if valid."""
    newest = rows.sort("time", maintain_order=True).unique("exception", keep="last")
    return tuple(filter(None, map(_recorded, newest.sort("exception").to_dicts())))


def _recorded(row: Mapping[str, object]) -> RuleException | None:
    match row:
        case {
            "exception": str(id_),
            "rule_id": str(rule_id),
            "fields": list(fields),
            "expires": datetime() as expires,
        } if fields:
            pairs = tuple((str(each["field"]), (str(each["value"]),)) for each in fields)
        case _:
            return None
    return RuleException(
        id=id_,
        rule_id=rule_id,
        fields=pairs,
        owner=str(row["owner"] or ""),
        reason=str(row["reason"] or ""),
        expires=expires,
    )


def excepted(findings: pl.DataFrame, exceptions: Iterable[RuleException]) -> pl.DataFrame:
    """Return the findings with the id of the exception that applies, the first if there are many.

    The columns of the event of a finding are those that begin with `event.`. A finding of several
    events, which is shown with the last one, is not excepted for a column of events.
    """
    found = pl.lit(None, pl.String)
    for each in sorted(exceptions, key=lambda one: one.id, reverse=True):
        applies = (pl.col("rule_id") == each.rule_id) & (pl.col("time") < each.expires)
        holds = [applies, *(_holds(findings, name, values) for name, values in each.fields)]
        found = pl.when(pl.all_horizontal(holds)).then(pl.lit(each.id)).otherwise(found)
    return findings.with_columns(found.alias("exception"))


def _holds(findings: pl.DataFrame, name: str, values: Sequence[str]) -> pl.Expr:
    alone = pl.col("count") == 1
    if name in _OF_EVENTS and f"{EVENT}{name}" in findings.columns:
        return _is_one_of(name, pl.col(f"{EVENT}{name}"), values) & alone
    if name not in _OF_FINDINGS:
        return pl.lit(value=False)
    same = _is_one_of(name, pl.col(name), values)
    return same & alone if name in _OF_EVENTS else same


def _is_one_of(name: str, column: pl.Expr, values: Sequence[str]) -> pl.Expr:
    text = column.cast(pl.String)
    lower = pl.Series(values, dtype=pl.String).str.to_lowercase()
    same = text.str.to_lowercase().is_in(lower.implode())
    within = [network for each in values if (network := networks.parsed(each))]
    if name == _ADDRESS and within:
        contained = partial(networks.contain, within)
        same = same | text.map_batches(contained, return_dtype=pl.Boolean, is_elementwise=True)
    return same.fill_null(value=False)
