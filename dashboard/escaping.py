"""Event text is written by strangers: how it is made harmless where it cannot be shown as it is.

Streamlit renders labels as Markdown, and a rendered image tells its host who looked, when and
from where.
"""

from __future__ import annotations

import re


def markdown(text: str, most: int = 60) -> str:
    """`text` on one line and shortened, every character that Markdown could act on disarmed."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[: most - 1]}…"
    return re.sub(r"([^\w\s])", _reference, line).replace("_", "&#95;")


def _reference(found: re.Match[str]) -> str:
    return f"&#{ord(found[1])};"
