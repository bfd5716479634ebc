"""The page Entities."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from dashboard.lake import Lake
from tests.dashboard import small_lakes
from tests.dashboard.hands import (
    button,
    click_value,
    settled,
    shoot,
)
from tests.dashboard.shown import App, shown_text
from tests.dashboard.small_lakes import HOSTILE

VICTIM = "theo.vanderberg@larkfield.example"
ATTACKER = "203.0.113.66"


PAGE = "from dashboard.screens import entities\nentities.show()"


@pytest.fixture
def looked_up(app: App, filled: Path) -> Callable[..., AppTest]:
    """The page of an entity."""

    def look(kind: str, value: str = "", root: Path = filled) -> AppTest:
        app(root)
        page = AppTest.from_string(PAGE, default_timeout=60)
        page.query_params["kind"] = kind
        page.query_params["v"] = value
        page.run()
        assert not page.exception
        return page

    return look


def facts(page: AppTest) -> set[str]:
    return {text.value for text in page.text}


def test_an_actor_has_the_events_of_all_integrations(
    looked_up: Callable[..., AppTest], filled: Path
) -> None:
    events = pl.read_delta(str(filled / "events")).filter(actor_email="ada@acme.example")
    page = looked_up("actor", "ada@acme.example")
    assert {"ada@acme.example", f"{events.height:,}"} <= facts(page)
    assert str(events["integration"].n_unique()) in facts(page)
    row = Lake(str(filled), {}).access.newest(1).row(0, named=True)
    assert (row["what"], row["about"]) == ("looked up", "actor:ada@acme.example")
    assert row["events"] == events.height


def test_part_of_a_name_finds_entities(looked_up: Callable[..., AppTest]) -> None:
    page = looked_up("actor")
    page.text_input(key="entity_part").set_value("gra").run()
    assert page.dataframe[0].value["value"].tolist() == ["grace@acme.example"]
    page.text_input(key="entity_part").set_value("[.*").run()
    assert "No matches" in shown_text(page)


def test_an_unknown_kind_of_entity_is_an_actor(looked_up: Callable[..., AppTest]) -> None:
    page = looked_up("password", "ada@acme.example")
    assert page.button_group(key="entity_kind").value == "actor"


def test_an_entity_without_events_is_reported(looked_up: Callable[..., AppTest]) -> None:
    page = looked_up("source_ip", "192.0.2.250")
    assert "No events for this entity" in shown_text(page)


def test_hostile_names_reach_no_element_that_renders_markup(
    looked_up: Callable[..., AppTest], tmp_path: Path
) -> None:
    small_lakes.append(tmp_path, [small_lakes.hostile(1, datetime.now(UTC))])
    page = looked_up("actor", HOSTILE, tmp_path)
    assert HOSTILE in facts(page)
    rendered = [*page.markdown, *page.caption, *page.get("html")]
    assert not any("evil.example" in str(element.proto) for element in rendered)
    assert not any("evil.example" in button.label for button in page.button)


@pytest.mark.browser
def test_a_person_is_the_same_across_all_vendors(page: Page) -> None:
    page.goto("/entities")
    expect(page.get_by_placeholder("Part of a name")).to_be_visible()
    settled(page)
    page.get_by_placeholder("Part of a name").fill("theo")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile(r"^\d found"))).to_be_visible()
    settled(page)
    click_value(page, "found-", VICTIM, height=28, parameter="v")
    expect(page.locator(".st-key-entity_name").get_by_text(VICTIM)).to_be_visible()
    expect(page.locator(".st-key-facts")).to_contain_text("PA, US")
    page.get_by_role("tab", name="Names and accounts").click()
    for vendor in ("okta", "entra_id", "jumpcloud"):
        account = page.locator(".st-key-related-actor [role=gridcell]").filter(has_text=vendor)
        expect(account.first).to_be_attached()
    settled(page)
    shoot(page, "person")
    page.get_by_role("tab", name="IP address").click()
    click_value(page, "related-source_ip", ATTACKER, height=26, parameter="v")
    expect(page.locator(".st-key-entity_name").get_by_text(ATTACKER)).to_be_visible()
    page.go_back()
    expect(page.locator(".st-key-entity_name").get_by_text(VICTIM)).to_be_visible()
    settled(page)
    page.get_by_role("link", name="Show all events").click()
    expect(button(page, f"Remove Actor is {VICTIM}")).to_be_visible()
