"""The page Entities."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.hands import (
    button,
    click_value,
    settled,
    shoot,
)

VICTIM = "theo.vanderberg@larkfield.example"
ATTACKER = "203.0.113.66"


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
    expect(button(page, f"Actor is {VICTIM}")).to_be_visible()
