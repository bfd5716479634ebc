"""Rules that find more in a day than rules.toml expects of them (`max_per_day`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from pipelines.detections import overlay
from pipelines.lake import pruning, tables
from pipelines.lake.findings import FINDINGS
from pipelines.lake.tables import Lake
from pipelines.settings.detections import DetectionSettings

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A rule with too many findings in the last 24 hours."""

    rule_id: str
    title: str
    found: int
    expected: int


def of(lake: Lake, chosen: DetectionSettings, now: datetime) -> list[Flood]:
    """Return the rules that flood, by id. Raises ConfigurationError and LakeError."""
    budgets = overlay.budgets(chosen, now)
    handle = tables.newest(lake, FINDINGS.name) if budgets else None
    if handle is None:
        return []
    files = pruning.overlapping(pruning.files(handle), "time", now - _DAY, now)
    return _over(pruning.scan(lake, FINDINGS.name, FINDINGS.schema, files), budgets, now)


def _over(rows: pl.LazyFrame, budgets: Mapping[str, int], now: datetime) -> list[Flood]:
    recent = pl.col("time").is_between(now - _DAY, now, closed="right")
    counted = pl.col("revision") == 0, pl.col("exception").is_null()
    with tables.store_errors(FINDINGS.name):
        found = (
            rows.filter(pl.col("rule_id").is_in(list(budgets)), recent, *counted)
            .group_by("rule_id")
            .agg(pl.col("title").last(), n=pl.len())
            .sort("rule_id")
            .collect()
        )
    return [
        Flood(rule_id=rule, title=title, found=n, expected=budgets[rule])
        for rule, title, n in found.iter_rows()
        if n > budgets[rule]
    ]
