"""The parts of a link or a search that are not understood: named at the place, never dropped."""

from __future__ import annotations

from dataclasses import dataclass

from dashboard import fields
from dashboard.state import TABS, View
from pipelines.search import parser
from pipelines.search.terms import SearchError, pointer

_REMOVE = "or remove it with Clear all"
# Without one of these, a link would find other events than its author meant.
_FORMS = {
    "range": "7d, 90m or 2026-11-01T00:00:00Z..2026-11-02T00:00:00Z",
    "held": "a time such as 2026-11-01T08:00:00Z",
    "q": "one search per link",
}
_REMARKS = {
    "by": "Use the name of a column; the graph shows the usual grouping instead.",
    "sort": "Use the name of a column, with - for descending; the newest events come first.",
    "cols": "Use different names of columns, with commas; the usual columns are shown instead.",
    "tab": f"Use one of {', '.join(TABS)}; the events are shown instead.",
    "ready": "Choose one in the menu Views; only its text is searched.",
    "off": "It has no text.",
    "foff": "Use field:value; it is switched off anyway.",
    "page": "Use a whole number from 1; the first page is shown instead.",
    "tz": "Use a name such as Europe/London; your browser's time zone is shown instead.",
    "ev": "Use DATE/UID, as in a link copied from an open event; none is open.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A part of the search that is not understood, and the right form; never a wider result."""

    reason: str
    pointer: str  # the text, with a caret below the place


def faults(view: View) -> list[Fault]:
    """Return the reasons why the search cannot be answered; none if it can."""
    found = [_fault(key, text) for key, text in view.unread if _decides(key)]
    try:
        parser.parse(view.text)
    except SearchError as error:
        found.insert(0, Fault(reason=error.reason, pointer=error.pointer))
    return found


def remarks(view: View) -> list[str]:
    """Return a sentence per parameter that is not understood but selects no events."""
    return [
        f"{key}={text[:60]} in this link is not understood. {_REMARKS.get(key, 'It is ignored.')}"
        for key, text in view.unread
        if not _decides(key)
    ]


def _decides(key: str) -> bool:
    """Return True if the parameter was meant to select events."""
    return key in ("f", *_FORMS) or fields.resolve(key) is not None


def _fault(key: str, text: str) -> Fault:
    if key == "f":
        return _filter_fault(text)
    form = _FORMS.get(key) or f"f={key}:value for a filter"
    place = len(key) + 1 if key in _FORMS else 0
    return Fault(
        reason=f"a parameter of this link is not understood: use {form}, {_REMOVE}",
        pointer=pointer(f"{key}={text}", place),
    )


def _filter_fault(text: str) -> Fault:
    name = text.removeprefix("-").partition(":")[0]
    nearest = fields.resolve(fields.nearest(name) or "")
    form = f"{nearest}:value" if nearest else "field:value"
    place = len(text) - len(text.removeprefix("-"))
    return Fault(
        reason=f"a filter of this link is not understood: use {form}, {_REMOVE}",
        pointer=pointer(text, place),
    )
