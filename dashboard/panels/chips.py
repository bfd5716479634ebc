"""One chip per part of the search: edited, inverted, switched off or removed one by one.

A term that is switched off stays in the link but selects nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import streamlit as st

from dashboard import escaping, fields, session, times
from dashboard.panels import notices
from dashboard.queries import Filter
from dashboard.state import View
from pipelines.search import parser, pieces
from pipelines.search.terms import SearchError

T = TypeVar("T")
Change = Callable[[View], View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A part of the search, and the view after each change to it."""

    label: str
    text: str  # what is edited
    on: bool
    edit: Callable[[View, str], View]
    invert: Change
    switch: Change
    remove: Change


def show() -> None:
    view = session.view()
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center", key="chips"):
        for place, chip in enumerate(chips(view)):
            _chip(place, chip)
        if view.held:
            st.button(
                f"As of {escaping.markdown(times.stamp(view.held, session.zone()))}",
                icon=":material/close:",
                icon_position="right",
                key="chip_held",
                on_click=session.change,
                kwargs={"held": None},
            )
        st.button("Clear all", type="tertiary", key="clear", on_click=notices.clear)


def chips(view: View) -> list[Chip]:
    """Return the filters and the terms of the search, then those that are switched off."""
    return [
        *(_of_filter(wanted, on=True) for wanted in view.filters),
        *_of_text(view.text),
        *(_of_filter(wanted, on=False) for wanted in view.off_filters),
        *(_off_term(text) for text in view.off),
    ]


def _of_filter(wanted: Filter, *, on: bool) -> Chip:
    def put(view: View, *others: Filter, switched: bool = False) -> View:
        """Return the view with other filters in the place of this one."""
        names = ("filters", "off_filters") if on else ("off_filters", "filters")
        here, there = (getattr(view, name) for name in names)
        kept = [one for old in here for one in (others if old == wanted else (old,))]
        moved = (*there, wanted) if switched else there
        return view.changing(page=1, **{names[0]: _unique(kept), names[1]: _unique(moved)})

    sense = "is not" if wanted.negated else "is"
    return Chip(
        label=f"{fields.label(wanted.field)} {sense} {fields.shown(wanted.value)}",
        text=wanted.value,
        on=on,
        edit=lambda view, text: put(view, replace(wanted, value=text)),
        invert=lambda view: put(view, replace(wanted, negated=not wanted.negated)),
        switch=lambda view: put(view, switched=True),
        remove=put,
    )


def _of_text(text: str) -> list[Chip]:
    try:
        found = pieces.split(text)
    except SearchError:  # explained in place of the result
        return []
    return [_term(place, piece) for place, piece in enumerate(found)]


def _term(place: int, piece: str) -> Chip:
    def put(view: View, *others: str) -> View:
        return view.changing(page=1, text=pieces.replaced(view.text, place, *others))

    return Chip(
        label=piece,
        text=piece,
        on=True,
        edit=lambda view, text: put(view, *filter(None, [text.strip()])),
        invert=lambda view: put(view, pieces.inverted(piece)),
        switch=lambda view: put(view).changing(off=_unique((*view.off, piece))),
        remove=put,
    )


def _off_term(piece: str) -> Chip:
    def put(view: View, *others: str) -> View:
        off = (one for text in view.off for one in (others if text == piece else (text,)))
        return view.changing(page=1, off=_unique(off))

    return Chip(
        label=piece,
        text=piece,
        on=False,
        edit=lambda view, text: put(view, *filter(None, [text.strip()])),
        invert=lambda view: put(view, pieces.inverted(piece)),
        switch=lambda view: replace(put(view), text=parser.both(view.text, piece)),
        remove=put,
    )


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _chip(place: int, chip: Chip) -> None:
    label = escaping.markdown(chip.label)
    # A new key per content: a menu must not stay open over another term.
    digest = hashlib.sha256(repr((chip.label, chip.on)).encode()).hexdigest()[:8]
    state = "on" if chip.on else "off"
    with st.container(horizontal=True, gap=None, width="content", key=f"chip{state}_{place}"):
        icon = None if chip.on else ":material/toggle_off:"
        with st.popover(label, icon=icon, key=f"chipmenu_{place}_{digest}"):
            _menu(place, digest, chip)
        st.button(
            f"Remove {label}",
            icon=":material/close:",
            type="tertiary",
            key=f"chip_{place}",
            on_click=lambda: session.ask(chip.remove(session.view())),
        )


def _menu(place: int, digest: str, chip: Chip) -> None:
    key = f"chipedit_{place}_{digest}"
    st.text_input(
        "Edit",
        chip.text,
        key=key,
        on_change=lambda: session.ask(chip.edit(session.view(), st.session_state[key])),
    )
    with st.container(horizontal=True, gap="xsmall"):
        st.button(
            "Invert",
            icon=":material/swap_horiz:",
            key=f"chipinvert_{place}",
            on_click=lambda: session.ask(chip.invert(session.view())),
        )
        st.button(
            "Switch off" if chip.on else "Switch on",
            icon=":material/toggle_off:" if chip.on else ":material/toggle_on:",
            key=f"chipswitch_{place}",
            on_click=lambda: session.ask(chip.switch(session.view())),
        )
