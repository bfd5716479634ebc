"""A long search: its progress with a button that cancels it.

Streamlit stops a run of the page when the run sends something and another one is requested. The
progress is sent between the parts of a search, so changing the search ends the older one, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import patience, session, state

_AFTER = 1.0  # seconds until the progress is shown
_PAGE = "waiting"  # the key of the search that a page is about


@contextmanager
def cancellable(preview: Callable[[], None] = lambda: None, key: str = _PAGE) -> Iterator[None]:
    """Show the progress of a long search and a button that cancels it. Raises TooLong.

    A search of several parts calls `preview` first, whose elements are removed at the end. Each
    search of a page has its own `key`. Not within fragments: a click on a button of theirs does
    not end the run of the page.
    """
    # One element, since each costs the browser some milliseconds after every click.
    held, began = st.empty(), time.monotonic()
    search, begun = state.search(session.view()), list[bool]()
    shown, places = list[DeltaGenerator](), list[DeltaGenerator]()

    def place(number: int) -> DeltaGenerator:
        if not places:
            box = held.container()
            places.extend((box.empty(), box.empty()))
        return places[number]

    def begin() -> None:
        if not begun:
            begun.append(True)
            with place(1).container():
                preview()

    def advance(share: float) -> None:
        if time.monotonic() - began < _AFTER:
            return
        if not shown:
            row = place(0).container(horizontal=True, vertical_alignment="center", key=key)
            with row:
                shown.append(st.progress(share))
                st.button("Cancel", key=f"{key}_cancel", on_click=_cancel, args=(key, search))
        shown[0].progress(share, text=f"Searching: {share:.0%}")

    def clear() -> None:
        if places:
            held.empty()

    try:
        with patience.watched(time.monotonic, advance, begin):
            yield
    except patience.TooLong:
        clear()
        raise
    clear()


def _cancel(key: str, search: str) -> None:
    st.session_state[_cancelled(key)] = search


def _cancelled(key: str) -> str:
    return f"{key}_cancelled"


def was_cancelled(key: str = _PAGE) -> bool:
    """Return True if the user has cancelled the search with this key for the view that is shown."""
    return bool(st.session_state.get(_cancelled(key)) == state.search(session.view()))


def start_again(key: str = _PAGE, label: str = "Search again") -> None:
    """Offer to start a cancelled search again."""
    again = st.session_state.pop
    st.button(label, key=f"{key}_again", on_click=again, args=(_cancelled(key), None))
