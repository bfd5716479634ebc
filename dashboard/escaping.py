"""Escape event text, which attackers can write, for Markdown labels and for charts.

An image in Markdown would be fetched by the browser, and so reveal to its host who looked, when and
from where.
"""

from __future__ import annotations

import re

from pipelines import visible


def markdown(text: str, most: int = 60) -> str:
    """Return `text` as one line of at most `most` characters, with punctuation as entities."""
    line = " ".join(visible.text(text, keep="\t\n\r").split())
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    # The regex counts "_" as a letter; Markdown takes it for emphasis.
    return re.sub(r"([^\w\s])", _reference, line).replace("_", "&#95;")


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[1])};"


def vega(text: str) -> str:
    """Return `text` without characters that could end a string of Vega, as people can judge it."""
    shown = visible.text(text)
    return "".join("\N{MIDDLE DOT}" if c in "\\\"'`<>" else c for c in shown)
