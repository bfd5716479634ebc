"""Event text is written by strangers: how it is made harmless where it cannot be shown as it is.

Streamlit renders labels as Markdown, and a rendered image tells its host who looked, when and
from where. A spreadsheet computes a cell that begins like a formula.
"""

from __future__ import annotations

import re

import polars as pl

_FORMULA = r"^[\s]*[=+\-@\t\r\n|%]"


def markdown(text: str, most: int = 60) -> str:
    """`text` on one line and shortened, every character that Markdown could act on disarmed."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return re.sub(r"([^\w\s])", _reference, line).replace("_", "&#95;")


def cells(column: str) -> pl.Expr:
    """The text column `column` with an apostrophe before what a spreadsheet would compute."""
    text = pl.col(column)
    risky = text.str.contains(_FORMULA)
    return pl.when(risky).then(pl.concat_str(pl.lit("'"), text)).otherwise(text).alias(column)


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[1])};"
