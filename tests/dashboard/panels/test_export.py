"""The Export menu makes files for auditors, with progress."""

from __future__ import annotations

import re
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dashboard import jobs
from dashboard.panels import export
from dashboard.queries import Filter, Query
from pipelines.integrity import evidence
from pipelines.integrity.verifier import audit
from tests.dashboard.hands import button, settled, shoot, visit
from tests.integrity.worlds import NOON, Signed

SPAN = Query(since=NOON - timedelta(days=1), until=NOON + timedelta(days=9))


@pytest.mark.parametrize(
    ("query", "records"),
    [
        (SPAN, 700),
        (Query(since=SPAN.since, until=SPAN.until, text="email:u3@x.io"), 100),
        (
            Query(
                since=SPAN.since,
                until=SPAN.until,
                filters=(Filter(field="actor", value="u3@x.io", negated=True),),
            ),
            600,
        ),
    ],
)
def test_a_pack_contains_the_events_of_the_page(signed: Signed, query: Query, records: int) -> None:
    shares: list[float] = []

    def make(path: Path, advance: evidence.Advance) -> int:
        def noted(done: int, of: int) -> None:
            shares.append(done / of)
            advance(done, of)

        return evidence.pack(signed.lake, export.asked(query), path, NOON, noted)["events"]

    job = jobs.start("evidence.zip", "", make)
    job.wait()
    assert not job.error
    assert job.path
    assert job.events == records
    assert shares[-1] == job.share == 1.0
    with zipfile.ZipFile(job.path) as pack:
        assert len(pack.read("records.ndjson").splitlines()) == records


@pytest.mark.browser
def test_a_certificate_is_made_by_a_button_and_downloaded_once(page: Page, tmp_path: Path) -> None:
    visit(page)
    button(page, "Export").click()
    button(page, "Coverage certificate").click()
    link = page.get_by_role("link", name=re.compile("^Download coverage-"))
    expect(link).to_be_visible()
    settled(page)
    shoot(page, "export")
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "coverage.txt")
    assert (tmp_path / "coverage.txt").read_text().startswith(f"{audit.CERTIFICATE}\n")
    address = str(link.get_attribute("href"))
    assert page.request.get(address).status == 404
    # The records of this lake are not signed: the menu contains the reason.
    button(page, "Evidence pack").click()
    expect(page.get_by_text("The file was not made.")).to_be_visible()
