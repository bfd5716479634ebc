"""Findings on the other pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from streamlit.testing.v1 import AppTest

from dashboard import findings
from dashboard.lake import Lake
from tests.dashboard import found
from tests.dashboard.shown import App, shown_text

NOW = datetime.now(UTC)
Open = Callable[..., AppTest]


def test_findings_that_cannot_be_read_do_not_break_explore(app: App, copied: Path) -> None:
    log = copied / "findings" / "_delta_log" / f"{0:020}.json"
    log.write_text("not json")
    shown = app(copied).run()
    assert not shown.exception
    assert "**1,200** events" in shown_text(shown) or "<b>1,200</b> events" in shown_text(shown)
    assert "The lake cannot be read" not in shown_text(shown)


def test_explore_leads_to_the_findings_of_its_time(app: App, judged: Path) -> None:
    shown = app(judged).run()
    links = [one.proto for one in shown.get("page_link")]
    (link,) = (one for one in links if one.label.endswith(" findings"))
    assert "range=" in link.query_string
    assert "level=medium" in link.query_string
    shows = pl.col("level").is_in(findings.MARKED), pl.col("status") == "found"
    listed = Lake(str(judged), {}).cases().filter(*shows, pl.col("exception").is_null())
    assert link.label == f"{listed.height} findings"
    events = next(one.value for one in shown.dataframe if "findings" in one.value)
    assert events["findings"].sum() > 0


def test_an_event_leads_to_its_findings(app: App, judged: Path) -> None:
    case = Lake(str(judged), {}).recent("findings", findings.revisions, found.newest(judged))
    assert case is not None
    uid, day = case["event_uids"][0][-1], case["date"][0]
    shown = app(judged)
    shown.query_params["ev"] = f"{day}/{uid}"
    shown.run()
    labels = [one.proto.label for one in shown.get("page_link")]
    assert any(label.startswith("Administrator role granted") for label in labels)


def test_an_entity_leads_to_its_findings(app: App, judged: Path) -> None:
    cases = Lake(str(judged), {}).cases()
    app(judged)
    code = (
        "from dashboard.screens import entities, findings\nimport streamlit as st\n"
        "from dashboard import session\n"
        "pages = {'findings': st.Page(findings.show, url_path='findings'), "
        "'entities': st.Page(entities.show, url_path='entities', default=True)}\n"
        "session.introduce(pages)\nst.navigation(list(pages.values())).run()\n"
    )
    shown = AppTest.from_string(code, default_timeout=120)
    shown.query_params["v"] = entity = cases["entity"][0]
    shown.run()
    n = cases.filter(pl.col("status") != "withdrawn", entity=entity).height
    assert f"{n} finding{'s' * (n != 1)}" in [one.proto.label for one in shown.get("page_link")]
