"""The state of the page as one value, which its URL contains completely.

Nothing of an investigation is stored elsewhere: reload, Back, shared links and saved views all rely
on `from_params(params(view)) == view`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from urllib.parse import urlencode

from dashboard import fields, listing, times
from dashboard.listing import NEWEST, Order
from dashboard.queries import Filter, Query
from dashboard.times import Last, Range
from pipelines.search import parser
from pipelines.search.terms import SearchError, pointer

USUAL = Last(count=7, unit="d")
TABS = {"events": "Events", "out": "Outliers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The event in the details pane; `date` is its partition."""

    date: date
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A part of the search that is not understood, and the right form; never a wider result."""

    reason: str
    pointer: str  # the text, with a caret below the place


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    range: Range = USUAL
    text: str = ""
    filters: tuple[Filter, ...] = ()
    unread: tuple[str, ...] = ()  # filters of a link that are none
    by: str = "activity_type"
    tab: str = "events"
    sort: Order = NEWEST
    columns: tuple[str, ...] = ()  # of the table; none means the usual ones
    page: int = 1
    zone: str = ""  # "" means the browser's
    held: datetime | None = None  # only events that had arrived by then
    opened: Opened | None = None

    def query(self, now: datetime) -> Query:
        since, until = times.bounds(self.range, now)
        return Query(since=since, until=until, text=self.text, filters=self.filters, held=self.held)

    def adding(self, wanted: Filter) -> View:
        """Return the view with this filter and without its opposite."""
        others = (f for f in self.filters if (f.field, f.value) != (wanted.field, wanted.value))
        return replace(self, filters=(*others, wanted), page=1)

    def removing(self, unwanted: Filter) -> View:
        return replace(self, filters=tuple(f for f in self.filters if f != unwanted), page=1)

    def choosing(self, field: str, values: Sequence[str], *, negated: bool) -> View:
        """Return the view with exactly these values of `field` in this sense; the other is kept."""
        others = [f for f in self.filters if (f.field, f.negated) != (field, negated)]
        chosen = [Filter(field=field, value=value, negated=negated) for value in values]
        return replace(self, filters=(*others, *chosen), page=1)

    def chosen(self, field: str, *, negated: bool) -> list[str]:
        return [f.value for f in self.filters if (f.field, f.negated) == (field, negated)]


def params(view: View) -> dict[str, list[str]]:
    """Return the query parameters of `view`, without defaults."""
    plain = View()
    spelled = {
        "range": [times.show(view.range)] if view.range != plain.range else [],
        "q": [view.text] if view.text else [],
        # Kept in the URL until they are removed, so that a reload names them again.
        "f": [*map(_show_filter, view.filters), *view.unread],
        "by": [view.by] if view.by != plain.by else [],
        "tab": [view.tab] if view.tab != plain.tab else [],
        "sort": [_show_order(view.sort)] if view.sort != plain.sort else [],
        "cols": [",".join(view.columns)] if view.columns else [],
        "page": [str(view.page)] if view.page != plain.page else [],
        "held": [times.instant(view.held)] if view.held else [],
        "tz": [view.zone] if view.zone else [],
        "ev": [f"{view.opened.date}/{view.opened.uid}"] if view.opened else [],
    }
    return {key: values for key, values in spelled.items() if values}


def from_params(given: Mapping[str, Sequence[str]]) -> View:
    """Return the view that the parameters describe.

    Anything invalid becomes the default, except filters: without one, a result would be another.
    """
    plain = View()
    one = {key: values[0] for key, values in given.items() if values}
    return View(
        range=times.parse(one.get("range", "")) or plain.range,
        text=one.get("q", ""),
        filters=tuple(f for f in map(_read_filter, given.get("f", ())) if f),
        unread=tuple(text for text in given.get("f", ()) if not _read_filter(text)),
        by=one["by"] if one.get("by") in fields.NAMES else plain.by,
        tab=one["tab"] if one.get("tab") in TABS else plain.tab,
        sort=_read_order(one.get("sort", "")),
        columns=_read_columns(one.get("cols", "")),
        page=_read_page(one.get("page", "")),
        held=times.parse_instant(one.get("held", "")),
        # Unknown zones become UTC, whose key differs from the parameter.
        zone=one["tz"] if times.zone(one.get("tz")).key == one.get("tz") else "",
        opened=_read_opened(one.get("ev", "")),
    )


def faults(view: View) -> list[Fault]:
    """Return the reasons why the search cannot be answered; none if it can."""
    found = [_filter_fault(text) for text in view.unread]
    try:
        parser.parse(view.text)
    except SearchError as error:
        found.insert(0, Fault(reason=error.reason, pointer=error.pointer))
    return found


def search(view: View) -> str:
    """Return the query string of the search alone, without the way it is shown."""
    plain = View()
    alone = replace(view, sort=plain.sort, columns=(), page=1, tab=plain.tab, opened=None)
    return urlencode(params(alone), doseq=True)


def _show_filter(wanted: Filter) -> str:
    return f"{'-' if wanted.negated else ''}{wanted.field}:{wanted.value}"


def _read_filter(text: str) -> Filter | None:
    name, colon, value = text.removeprefix("-").partition(":")
    field = fields.resolve(name)
    if not colon or not field:
        return None
    return Filter(field=field, value=value, negated=text.startswith("-"))


def _filter_fault(text: str) -> Fault:
    name = text.removeprefix("-").partition(":")[0]
    nearest = fields.resolve(fields.nearest(name) or "")
    form = f"{nearest}:value" if nearest else "field:value"
    reason = f"a filter of this link is not understood: use {form}, or remove it with Clear all"
    place = len(text) - len(text.removeprefix("-"))
    return Fault(reason=reason, pointer=pointer(text, place))


def _show_order(order: Order) -> str:
    return f"{'-' if order.descending else ''}{order.field}"


def _read_order(text: str) -> Order:
    field = text.removeprefix("-")
    return Order(field=field, descending=field != text) if field in listing.COLUMNS else NEWEST


def _read_columns(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    return names if {*names} <= {*listing.COLUMNS} and len({*names}) == len(names) else ()


def _read_page(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 1_000_000 else 1


def _read_opened(text: str) -> Opened | None:
    day, slash, uid = text.partition("/")
    try:
        return Opened(date=date.fromisoformat(day), uid=uid) if slash and uid else None
    except ValueError:
        return None
