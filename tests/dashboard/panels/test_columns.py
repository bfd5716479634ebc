"""The menu of columns."""

from __future__ import annotations

from pathlib import Path

from dashboard import table
from tests.dashboard.shown import App, address


def test_the_columns_of_a_link_are_shown_in_their_order(app: App, filled: Path) -> None:
    page = app(filled)
    page.query_params["cols"] = "actor,city,ingested_at"
    page.run()
    assert not page.exception
    assert list(page.dataframe[-1].proto.column_order) == ["actor", "city", "ingested_at"]
    assert page.dataframe[-1].value["city"].to_list()[0] == "London"
    assert address(page) == {"cols": ["actor,city,ingested_at"]}


def test_columns_are_chosen_moved_and_reset(app: App, filled: Path) -> None:
    page = app(filled)
    page.session_state["columns"] = True
    page.run()
    page.multiselect(key="column_names").set_value([*table.USUAL[:2], "city"]).run()
    assert address(page)["cols"] == ["time,integration,city"]
    assert page.button(key="move_right_city").disabled
    page.button(key="move_left_city").click().run()
    assert address(page)["cols"] == ["time,city,integration"]
    page.button(key="usual_columns").click().run()
    assert address(page) == {}
    assert tuple(page.dataframe[-1].proto.column_order) == table.USUAL
