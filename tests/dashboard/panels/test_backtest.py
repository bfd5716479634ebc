"""A backtest is started on the page of a finding, and its result is shown there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest

from dashboard.backtests import Backtest
from dashboard.lake import Lake as Reading
from pipelines.detections import rules, ruleset
from pipelines.lake.tables import Lake
from tests.dashboard import found
from tests.dashboard.conftest import _note_foreign, free_port, serving
from tests.dashboard.hands import button, settled, shoot
from tests.dashboard.shown import shown_text
from tests.detections import watched
from tests.detections.ruled import written
from tests.detections.watched import detect, land, okta, rule

NOW = datetime.now(UTC)
HOSTILE = "**bold** ![x](http://evil.example/x.png)"
Open = Callable[..., AppTest]


@pytest.fixture
def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with a finding of a rule, and further events that it matches."""
    folder = tmp_path / "rules"
    loaded = rules.load([written(folder, rule(1, {"eventType": "a"}))])
    lake = Lake(str(tmp_path / "lake"))
    times = [NOW - timedelta(days=day, hours=1) for day in (1, 1, 3, 20)]
    records = [
        okta(n, "a", published=f"{time:%Y-%m-%dT%H:%M:%SZ}", displayMessage=HOSTILE)
        for n, time in enumerate(times)
    ]
    monkeypatch.setattr(watched, "LATER", NOW)
    land(lake, "okta", *records)
    detect(lake, ruleset.compiled(loaded))
    monkeypatch.setenv("AUDITLAKE_DETECTIONS__RULES", f'["{folder}"]')
    return tmp_path / "lake"


def uid(root: Path) -> str:
    return str(Reading(str(root), {}).cases().sort("time")["finding_uid"][-1])


def ran(shown: AppTest) -> AppTest:
    """Start the backtest, and run the page again after it has ended."""
    shown.button(key="backtest_start").click().run()
    job: Backtest = shown.session_state["backtest"]
    job.wait()
    return shown.run()


def test_a_backtest_shows_its_findings_and_is_recorded(findings_at: Open, lived: Path) -> None:
    shown = ran(findings_at(lived, id=uid(lived)))
    assert "3 findings in 3 rows of the last 7 days" in shown_text(shown)
    assert "no receiver is configured" in shown_text(shown)
    abouts = [row["about"] for row in found.rows(lived, "access")]
    assert any(about.startswith(f"backtest {rule(1, {})['id']} ") for about in abouts)
    shown.segmented_control(key="backtest_days").set_value(30).run()
    assert "4 findings in 4 rows of the last 30 days" in shown_text(ran(shown))


def test_messages_that_receivers_would_have_had_are_counted(
    findings_at: Open, lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receivers = '{"chat": {"kind": "slack", "url": "https://hooks.slack.example/s3cr3t"}}'
    monkeypatch.setenv("AUDITLAKE_ALERTS__RECEIVERS", receivers)
    text = shown_text(ran(findings_at(lived, id=uid(lived))))
    assert "3 findings would have been alerted: chat 2 alerts" in text
    assert "s3cr3t" not in text


def test_a_cancelled_backtest_can_be_started_again(findings_at: Open, lived: Path) -> None:
    shown = findings_at(lived, id=uid(lived))
    shown.button(key="backtest_start").click().run()
    job: Backtest = shown.session_state["backtest"]
    job.wait()
    job.found, job.stopped = None, True
    assert "Cancelled" in shown_text(shown.run())
    assert "3 findings" in shown_text(ran(shown))


def test_a_rule_that_does_not_run_has_no_backtest(
    findings_at: Open, lived: Path, tmp_path: Path
) -> None:
    written(tmp_path / "rules", rule(1, {"eventType|nonsense": "a"}))
    shown = findings_at(lived, id=uid(lived))
    assert "does not run" in shown_text(shown)
    assert not [one for one in shown.button if one.key == "backtest_start"]


@pytest.fixture
def page(browser: Browser, lived: Path, foreign: list[str]) -> Iterator[Page]:
    with serving(lived, lived, free_port()) as server:
        context = browser.new_context(base_url=server, viewport={"width": 1440, "height": 900})
        context.on("request", lambda request: _note_foreign(request.url, server, foreign))
        made = context.new_page()
        made.set_default_timeout(120_000)
        yield made
        context.close()
    assert not foreign


@pytest.mark.browser
def test_an_analyst_backtests_a_rule_and_opens_a_sample(page: Page, lived: Path) -> None:
    page.goto(f"/findings?id={uid(lived)}")
    button(page, "Backtest").click()
    expect(page.get_by_text("3 findings in 3 rows of the last 7 days")).to_be_visible()
    settled(page)
    chart = page.locator(".st-key-backtest [data-testid='stVegaLiteChart'] canvas")
    expect(chart.or_(page.locator(".st-key-backtest svg.marks")).first).to_be_visible()
    shoot(page, "finding-backtest")
    expect(page.locator("img[src*='evil']")).to_have_count(0)
    page.locator(".st-key-backtest a").first.click()
    page.wait_for_url("**/?*ev=*")
