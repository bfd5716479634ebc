"""Which techniques of ATT&CK the rules cover, for which vendor, and which not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import streamlit as st

from dashboard import rule_files
from pipelines import visible
from pipelines.detections import attack
from pipelines.detections.attack import Covered

_EVERY = "All vendors"
_ROW = 28


def show() -> None:
    rules = rule_files.running()
    if not rules:
        st.caption("No rules are configured on this machine: see `[detections] rules`.")
        return
    found = attack.coverage(rules)
    vendors = list(attack.VENDORS.values())
    chosen = st.segmented_control(
        "Vendor",
        [_EVERY, *vendors],
        default=_EVERY,
        required=True,
        key="technique_vendor",
        label_visibility="collapsed",
    )
    covered = [one for one in found if _covers(one, chosen)]
    missing = [one for one in found if not _covers(one, chosen)]
    st.caption(
        f"{len(covered):,} techniques are covered by the {len(rules):,} rules that run as this "
        f"machine is configured. Rules over `events` and correlations, in the column "
        f"{attack.ALL}, count for every vendor."
    )
    _matrix(covered, vendors if chosen == _EVERY else [chosen])
    st.markdown("#### Not covered")
    _gaps(missing)


def _covers(one: Covered, vendor: str) -> bool:
    """Return True if a rule for the vendor, or for all, has the technique."""
    return bool(one.rules) if vendor == _EVERY else bool({vendor, attack.ALL} & {*one.rules})


def _matrix(rows: Sequence[Covered], vendors: Sequence[str]) -> None:
    columns = [*vendors, attack.ALL]
    counts = {name: [one.rules.get(name) for one in rows] for name in columns}
    shown = _named(rows).with_columns(
        pl.Series(name, values, pl.Int64) for name, values in counts.items()
    )
    numbers = {name: st.column_config.NumberColumn(name, width=_width(name)) for name in columns}
    _table(shown, 520, numbers, "Rules per technique and vendor")


def _width(name: str) -> int:
    """Return the width of a column of numbers whose header is to be read."""
    return 40 + 6 * len(name)


def _gaps(rows: Sequence[Covered]) -> None:
    reasons = [one.reason or "covered for other vendors only" for one in rows]
    shown = _named(rows).with_columns(pl.Series("reason", reasons, pl.String))
    texts = {"reason": st.column_config.TextColumn("Reason")}
    _table(shown, 360, texts, "Techniques that are not covered, with the reason")


def _table(shown: pl.DataFrame, most: int, others: dict[str, Any], name: str) -> None:
    """Show techniques, at most `most` pixels high; `others`: the columns besides their names."""
    st.dataframe(
        shown,
        hide_index=True,
        placeholder="",
        height=min(most, 38 + _ROW * shown.height),
        row_height=_ROW,
        column_config={
            "technique": st.column_config.TextColumn("Technique", width=90),
            "name": st.column_config.TextColumn("Name", width=300),
            **others,
        },
        alt=name,
    )


def _named(rows: Sequence[Covered]) -> pl.DataFrame:
    texts = {
        "technique": [one.technique for one in rows],
        "name": [one.name for one in rows],
    }
    schema = dict.fromkeys(texts, pl.String())
    return visible.frame(pl.DataFrame(texts, schema))
