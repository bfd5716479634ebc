"""The menu in which the columns of the table are chosen and ordered; the address contains them."""

from __future__ import annotations

import streamlit as st

from dashboard import fields, listing, session, table


def show() -> None:
    with st.popover(
        "Columns", icon=":material/view_column:", key="columns", on_change="rerun"
    ) as menu:
        if menu.open:
            chosen = session.view().columns or table.USUAL
            _names(chosen)
            for place, name in enumerate(chosen):
                _column(chosen, place, name)
            st.button(
                "Usual columns", key="usual_columns", on_click=session.arrange,
                kwargs={"columns": ()}, disabled=not session.view().columns,
            )  # fmt: skip


def _names(chosen: tuple[str, ...]) -> None:
    st.session_state["column_names"] = list(chosen)
    st.multiselect(
        "Columns",
        listing.COLUMNS,
        key="column_names",
        format_func=fields.label,
        filter_mode="contains",
        label_visibility="collapsed",
        on_change=_take_names,
    )


def _take_names() -> None:
    session.arrange(columns=_unless_usual(tuple(st.session_state["column_names"])))


def _column(chosen: tuple[str, ...], place: int, name: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap=None):
        st.text(fields.label(name), width="stretch")
        for by, side, end in ((-1, "left", 0), (1, "right", len(chosen) - 1)):
            st.button(
                f"Move {fields.label(name)} to the {side}",
                icon=f":material/chevron_{side}:",
                key=f"move_{side}_{name}",
                type="tertiary",
                disabled=place == end,
                on_click=session.arrange,
                kwargs={"columns": _unless_usual(table.moved(chosen, name, by))},
            )


def _unless_usual(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return (), which stands for the usual columns, or these."""
    return () if columns == table.USUAL else columns
