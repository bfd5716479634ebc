"""The view between two runs of the page: read from the URL and written back to it.

Writing it with `from_dict` adds an entry to the browser's history; reading it changes nothing, or
Back would be caught in a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from dashboard import charts, open_lake, state, times
from dashboard.access_log import Seen
from dashboard.queries import Filter
from dashboard.state import Opened, View
from pipelines.clock import utc_now
from pipelines.search import parser

_VIEW = "view"
_WRITTEN = "written"  # the parameters we last read or wrote
_GRID = "grid"  # the key of the grid of events on the page
_STALE = "stale"  # a callback changed the search, but only a fragment reruns
_LEFT = "left"  # how the last page was left for another
_ACTED = "acted"  # a callback changed the view: the URL sent with it may be older


def follow_address() -> None:
    """Take the view from the URL unless it is the one we wrote: a link, reload or Back.

    The view is kept, and written back, on return from another page of the app, whose links have no
    parameters, and after a click made before the browser had the URL of the previous click.
    """
    given = _given()
    returned = not given and st.session_state.pop("elsewhere", False)
    kept = (st.session_state.pop(_ACTED, False) or returned) and _VIEW in st.session_state
    if not kept and given != st.session_state.get(_WRITTEN):
        st.session_state[_VIEW] = state.from_params(given)
    st.session_state[_WRITTEN] = given
    # The whole page is running, so nothing is stale.
    st.session_state.pop(_STALE, None)


def write_address() -> None:
    """Write the view to the URL if they differ."""
    spelled = state.params(view())
    # Compared after parsing: an equivalent URL needs no new entry in the history.
    if spelled != state.params(state.from_params(st.session_state[_WRITTEN])):
        st.query_params.from_dict(spelled)
        st.session_state[_WRITTEN] = spelled


def leave() -> None:
    """Remember that another page of the app is shown, whose URL does not contain the view."""
    st.session_state["elsewhere"] = True
    no_grid()


def view() -> View:
    found: View = st.session_state.get(_VIEW, View())
    return found


def zone() -> ZoneInfo:
    """Return the time zone of the view, by default the browser's."""
    return times.zone(view().zone or st.context.timezone)


def ask(view: View) -> None:
    """Show another search: the whole page reruns."""
    st.session_state[_VIEW] = view
    st.session_state[_STALE] = st.session_state[_ACTED] = True


def change(**changes: Any) -> None:
    """Change the search and return to its first page; an open event stays open."""
    ask(view().changing(**{"page": 1, **changes}))


def filter_by(wanted: Filter) -> None:
    ask(view().adding(wanted))


def search_for(phrase: str, *, negated: bool) -> None:
    """Add a phrase to the search that events must, or must not, contain."""
    change(text=parser.also(view().text, phrase, negated=negated))


def show_event(opened: Opened | None, page: int | None = None) -> None:
    """Open or close the details pane; the search is the same, so a fragment's rerun is enough."""
    st.session_state[_VIEW] = replace(view(), opened=opened, page=page or view().page)
    st.session_state[_ACTED] = True


def arrange(**changes: Any) -> None:
    """Change how the result is shown, from its first page; a fragment reruns.

    The page reruns if that replaces a parameter of its link that is not understood.
    """
    before = view()
    after = before.changing(**{"page": 1, **changes})
    ask(after)
    st.session_state[_STALE] = after.unread != before.unread


def introduce(pages: Mapping[str, st.Page]) -> None:
    """Register the pages that links may lead to, by name."""
    st.session_state["pages"] = dict(pages)


def link(page: str, label: str, icon: str | None, address: Mapping[str, Sequence[str]]) -> None:
    """Show a link to a page with these parameters; `label` must be safe as Markdown."""
    target = st.session_state.get("pages", {}).get(page)
    if target:
        st.page_link(target, label=label, icon=icon, query_params=dict(address))


def go(page: str, address: Mapping[str, Sequence[str]]) -> None:
    """Open another page with these parameters."""
    spelled = {key: [text] if isinstance(text, str) else [*text] for key, text in address.items()}
    st.session_state[_LEFT] = page, spelled, _given()
    st.switch_page(st.session_state["pages"][page], query_params=dict(address))


def come_back(page: str) -> None:
    """Restore the parameters of a page that was left by `go`, after Back.

    Streamlit first adds an entry with the parameters of the next page to the browser's history.
    """
    target, address, before = st.session_state.get(_LEFT, ("", {}, {}))
    if target and page != target and _given() == address:
        st.query_params.from_dict(before)


def _given() -> dict[str, list[str]]:
    return {key: st.query_params.get_all(key) for key in st.query_params}


def colours(field: str, values: list[str]) -> dict[str, int]:
    """Return the palette place of each value, kept for the session under any filter."""
    known: dict[str, dict[str, int]] = st.session_state.setdefault("colours", {})
    known[field] = charts.coloured(known.get(field, {}), values)
    return known[field]


def record(what: str, about: str, events: int | None = None, version: int | None = None) -> None:
    """Record in `access` who looks at this, once until it changes.

    If the number of events was not known yet, it is recorded in a second row.
    """
    recorded = st.session_state.get(f"recorded {what}")
    if recorded in ((about, True), (about, events is not None)):
        return
    seen = Seen(who=open_lake.visitor(), what=what, about=about, events=events, version=version)
    open_lake.configured().access.record(utc_now(), seen)
    st.session_state[f"recorded {what}"] = about, events is not None


def newly_shown(grid: str) -> bool:
    """Return True if the grid with that key was not on the page in the previous run."""
    before = st.session_state.get(_GRID)
    st.session_state[_GRID] = grid
    return bool(before != grid)


def no_grid() -> None:
    st.session_state.pop(_GRID, None)


def rerun_if_stale() -> None:
    """Rerun the page if a callback changed the search; fragments call it first."""
    if st.session_state.pop(_STALE, False):
        rerun()
    st.session_state.pop(_ACTED, None)


def rerun() -> None:
    """Rerun the whole page with the current view."""
    # Marked as a click, so that the rerun keeps the view instead of reading an older URL.
    st.session_state[_ACTED] = True
    st.rerun()
