"""The analyst's view between two runs of the page: read from the address, written back to it.

The address is written with `from_dict`, which makes an entry in the browser's history; reading it
leaves it as it is, or Back would be caught in a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from dashboard import charts, open_lake, search, state, times
from dashboard.access_log import Seen
from dashboard.queries import Filter
from dashboard.search import Term, Word
from dashboard.state import Opened, View

_VIEW = "view"
_WRITTEN = "written"  # the parameters we last read or wrote
_GRID = "grid"  # the key of the grid of events on the page
_STALE = "stale"  # a callback changed the question while only a fragment was to be run
_ACTED = "acted"  # a callback changed the view: the address that came along may be older than it


def follow_address() -> None:
    """Take the view from the address unless it is the one we wrote: a link, reload or Back.

    A bare address on return from another page of the app keeps the view, which is then written.
    So does a click that a quick hand made before the browser had the address of the click before.
    """
    given = {key: st.query_params.get_all(key) for key in st.query_params}
    returned = not given and st.session_state.pop("elsewhere", False)
    kept = (st.session_state.pop(_ACTED, False) or returned) and _VIEW in st.session_state
    if not kept and given != st.session_state.get(_WRITTEN):
        st.session_state[_VIEW] = state.from_params(given)
    st.session_state[_WRITTEN] = given
    st.session_state.pop(_STALE, None)


def write_address() -> None:
    spelled = state.params(view())
    if spelled != state.params(state.from_params(st.session_state[_WRITTEN])):
        st.query_params.from_dict(spelled)
        st.session_state[_WRITTEN] = spelled


def leave() -> None:
    """Another page of the app is shown, whose address says nothing of the view."""
    st.session_state["elsewhere"] = True
    no_grid()


def view() -> View:
    found: View = st.session_state.get(_VIEW, View())
    return found


def zone() -> ZoneInfo:
    return times.zone(view().zone or st.context.timezone)


def ask(view: View) -> None:
    """Put another question: everything on the page is made anew."""
    st.session_state[_VIEW] = view
    st.session_state[_STALE] = st.session_state[_ACTED] = True


def change(**changes: Any) -> None:
    """Another question, from its first page; an open event stays open beside it."""
    ask(replace(view(), **{"page": 1, **changes}))


def filter_by(wanted: Filter) -> None:
    ask(view().adding(wanted))


def search_for(phrase: str, *, negated: bool) -> None:
    """Add words that must, or must not, be in an event to what is searched for."""
    term = Term(words=(Word(text=phrase, quoted=True),), negated=negated)
    change(text=f"{view().text} {search.show([term])}".strip())


def show_event(opened: Opened | None, page: int | None = None) -> None:
    """Open or close the details pane: the same question, so a fragment's run is enough."""
    st.session_state[_VIEW] = replace(view(), opened=opened, page=page or view().page)
    st.session_state[_ACTED] = True


def introduce(pages: Mapping[str, st.Page]) -> None:
    """The pages that links may lead to, by name."""
    st.session_state["pages"] = dict(pages)


def link(page: str, label: str, icon: str | None, address: Mapping[str, Sequence[str]]) -> None:
    """A link to a page of the app at these parameters; `label` must be harmless as Markdown."""
    target = st.session_state.get("pages", {}).get(page)
    if target:
        st.page_link(target, label=label, icon=icon, query_params=dict(address))


def go(page: str, address: Mapping[str, Sequence[str]]) -> None:
    st.switch_page(st.session_state["pages"][page], query_params=dict(address))


def colours(field: str, values: list[str]) -> dict[str, int]:
    """Kept for the session, so that a value's colour stays whatever is filtered."""
    known: dict[str, dict[str, int]] = st.session_state.setdefault("colours", {})
    known[field] = charts.coloured(known.get(field, {}), values)
    return known[field]


def record(what: str, about: str, events: int | None = None, version: int | None = None) -> None:
    """Note in the lake who looks at this, once while it is being looked at."""
    if st.session_state.get(f"recorded {what}") == about:
        return
    seen = Seen(who=open_lake.visitor(), what=what, about=about, events=events, version=version)
    open_lake.configured().access.record(datetime.now(UTC), seen)
    st.session_state[f"recorded {what}"] = about


def newly_shown(grid: str) -> bool:
    """Whether the grid of that key was not on the page in the run before."""
    before = st.session_state.get(_GRID)
    st.session_state[_GRID] = grid
    return bool(before != grid)


def no_grid() -> None:
    st.session_state.pop(_GRID, None)


def rerun_if_stale() -> None:
    """First line of a fragment whose callbacks may put another question."""
    if st.session_state.pop(_STALE, False):
        rerun()
    st.session_state.pop(_ACTED, None)


def rerun() -> None:
    """All of the page anew, with the view as it is."""
    st.session_state[_ACTED] = True
    st.rerun()
