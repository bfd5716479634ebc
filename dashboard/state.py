"""The state of the page as one value, which its URL contains completely.

Nothing of an investigation is stored elsewhere: reload, Back, shared links and saved views all rely
on `from_params(params(view)) == view`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from urllib.parse import urlencode

from dashboard import fields, listing, ready, times
from dashboard.listing import NEWEST, Order
from dashboard.queries import Filter, Query
from dashboard.times import Last, Range

USUAL = Last(count=7, unit="d")
TABS = {"events": "Events", "out": "Outliers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The event in the details pane; `date` is its partition."""

    date: date
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    range: Range = USUAL
    text: str = ""
    filters: tuple[Filter, ...] = ()
    off: tuple[str, ...] = ()  # terms of the search that are switched off
    off_filters: tuple[Filter, ...] = ()
    unread: tuple[tuple[str, str], ...] = ()  # parameters of a link that mean nothing
    by: str = "activity_type"
    tab: str = "events"
    sort: Order = NEWEST
    columns: tuple[str, ...] = ()  # of the table; none means the usual ones
    page: int = 1
    ready: str = ""  # a key of ready.SEARCHES
    zone: str = ""  # "" means the browser's
    held: datetime | None = None  # only events that had arrived by then
    opened: Opened | None = None

    def query(self, now: datetime) -> Query:
        since, until = times.bounds(self.range, now)
        return Query(since=since, until=until, text=self.text, filters=self.filters, held=self.held)

    def adding(self, wanted: Filter) -> View:
        """Return the view with this filter and without its opposite."""
        others = (f for f in self.filters if (f.field, f.value) != (wanted.field, wanted.value))
        return self.changing(filters=(*others, wanted), page=1)

    def changing(self, **changes: Any) -> View:
        """Return the view with these attributes, and without the unread parameters for them.

        Unread filters stay until all are cleared: another filter does not replace them.
        """
        theirs = {_PARAMETERS.get(name, name) for name in changes if name not in _SEVERAL}
        unread = tuple(one for one in self.unread if one[0] not in theirs)
        return replace(self, **{"unread": unread, **changes})

    def choosing(self, field: str, values: Sequence[str], *, negated: bool) -> View:
        """Return the view with exactly these values of `field` in this sense; the other is kept."""
        others = [f for f in self.filters if (f.field, f.negated) != (field, negated)]
        chosen = [Filter(field=field, value=value, negated=negated) for value in values]
        return self.changing(filters=(*others, *chosen), page=1)

    def chosen(self, field: str, *, negated: bool) -> list[str]:
        return [f.value for f in self.filters if (f.field, f.negated) == (field, negated)]


def params(view: View) -> dict[str, list[str]]:
    """Return the query parameters of `view`, without defaults."""
    plain = View()
    odd = {key for key, text in view.unread if key in _READERS and _READERS[key](text) is not None}
    spelled = {
        # A default is spelled only where an unread value could be taken for it.
        "range": [times.show(view.range)] if "range" in odd or view.range != plain.range else [],
        "q": [view.text] if "q" in odd or view.text else [],
        "f": [*map(_show_filter, view.filters)],
        "off": [*view.off],
        "foff": [*map(_show_filter, view.off_filters)],
        "by": [view.by] if "by" in odd or view.by != plain.by else [],
        "tab": [view.tab] if "tab" in odd or view.tab != plain.tab else [],
        "sort": [_show_order(view.sort)] if "sort" in odd or view.sort != plain.sort else [],
        "cols": [",".join(view.columns)] if view.columns else [],
        "page": [str(view.page)] if "page" in odd or view.page != plain.page else [],
        "held": [times.instant(view.held)] if view.held else [],
        "ready": [view.ready] if view.ready else [],
        "tz": [view.zone] if view.zone else [],
        "ev": [f"{view.opened.date}/{view.opened.uid}"] if view.opened else [],
    }
    # Kept in the URL until they are removed, so that a reload names them again.
    for key, text in view.unread:
        spelled.setdefault(key, []).append(text)
    return {key: values for key, values in spelled.items() if values}


def from_params(given: Mapping[str, Sequence[str]]) -> View:
    """Return the view that the parameters describe; those that mean nothing are its `unread`."""
    read: dict[str, Any] = {}
    several: dict[str, list[Any]] = {name: [] for name in _SEVERAL}
    unread: list[tuple[str, str]] = []
    for key, text in ((name, text) for name in sorted(given) for text in given[name]):
        found = _READERS[key](text) if key in _READERS else None
        name = _ATTRIBUTES.get(key, key)
        if found is None or name in read:
            unread.append((key, text))
        elif name in several:
            several[name].append(found)
        else:
            read[name] = found
    read |= {name: tuple(values) for name, values in several.items()}
    return View(**read, unread=tuple(unread))


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


def _show_order(order: Order) -> str:
    return f"{'-' if order.descending else ''}{order.field}"


def _read_order(text: str) -> Order | None:
    field = text.removeprefix("-")
    return Order(field=field, descending=field != text) if field in listing.COLUMNS else None


def _read_columns(text: str) -> tuple[str, ...] | None:
    names = tuple(text.split(","))
    return names if {*names} <= {*listing.COLUMNS} and len({*names}) == len(names) else None


def _read_page(text: str) -> int | None:
    known = text.isascii() and text.isdigit() and len(text) < 7
    return (int(text) or None) if known else None


def _read_opened(text: str) -> Opened | None:
    day, slash, uid = text.partition("/")
    try:
        return Opened(date=date.fromisoformat(day), uid=uid) if slash and uid else None
    except ValueError:
        return None


def _one_of(known: Collection[str]) -> Callable[[str], str | None]:
    return lambda text: text if text in known else None


_READERS: dict[str, Callable[[str], Any]] = {
    "range": times.parse,
    "q": str,
    "f": _read_filter,
    "off": lambda text: text or None,
    "foff": _read_filter,
    "by": _one_of(fields.NAMES),
    "tab": _one_of(TABS),
    "sort": _read_order,
    "cols": _read_columns,
    "page": _read_page,
    "ready": _one_of(ready.SEARCHES),
    "held": times.parse_instant,
    # Unknown zones become UTC, whose key differs from the parameter.
    "tz": lambda text: text if times.zone(text).key == text else None,
    "ev": _read_opened,
}
_ATTRIBUTES = {
    "q": "text", "f": "filters", "foff": "off_filters", "cols": "columns", "tz": "zone",
    "ev": "opened",
}  # fmt: skip
_PARAMETERS = {name: key for key, name in _ATTRIBUTES.items()}
_SEVERAL = ("filters", "off", "off_filters")
