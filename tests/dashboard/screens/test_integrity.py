"""The page Integrity, on a lake signed by the pipeline."""

from __future__ import annotations

import pytest
from deltalake import write_deltalake
from streamlit import config
from streamlit.testing.v1 import AppTest

from pipelines.integrity import reports
from tests.integrity import attacks

PAGE = "from dashboard.screens import integrity\nintegrity.show()"


@pytest.fixture
def page(signed, monkeypatch):
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(signed.folder / "none.toml"))
    monkeypatch.setenv("AUDITLAKE_LAKE__ROOT", str(signed.folder / "lake"))
    config.set_option("server.address", "127.0.0.1")

    def run():
        shown = AppTest.from_string(PAGE, default_timeout=60).run()
        assert not shown.exception
        return shown

    return run


def texts(page):
    return "\n".join(text.value for text in (*page.markdown, *page.caption))


def test_the_page_shows_the_last_verification_and_the_rows_signed_since(signed, page):
    assert "not verified yet" in texts(page())
    reports.keep(signed.lake, [signed.verify()])
    signed.land(*range(700, 750), day=3)
    shown = page()
    assert "All verified rows are as they were signed" in texts(shown)
    assert "750 rows signed, 50 of them since the last verification" in texts(shown)
    row = shown.dataframe[0].value.iloc[0]
    assert (row["table"], list(row["state"]), row["signed"]) == (
        "raw/okta/system_log",
        ["verified"],
        750,
    )
    history = shown.dataframe[1].value
    assert history["size"].tolist() == [750, 700, 600, 500, 400, 300, 200, 100]
    assert history["by"][0] == "auditlake"


def test_the_page_shows_the_findings_in_words_with_the_next_step(signed, page):
    attacks.delete(signed)
    reports.keep(signed.lake, [signed.verify()])
    shown = page()
    assert ":red[" in texts(shown)
    assert "Tampering detected" in texts(shown)
    assert "**Signed rows were deleted**" in texts(shown)
    assert "Next: Copy the lake and integrity.folder as they are." in texts(shown)
    assert shown.text[0].value.startswith("raw/okta/system_log: row 417 (event_id id-000417)")
    assert "DELETED: row 417 (event_id id-000417)" in shown.dataframe[0].value["found"][0]


def test_the_page_names_records_that_arrived_with_other_content(signed, page):
    report = signed.verify()
    report.differing = {
        "id-\u202e5": "id-\u202e5: row 5 polled, row 700 pushed; events shows row 5"
    }
    reports.keep(signed.lake, [report])
    shown = page()
    assert "All verified rows are as they were signed" in texts(shown)
    assert "**Other content arrived for the same id**" in texts(shown)
    assert "Next: compare with the vendor's console." in texts(shown)
    (line,) = (text.value for text in shown.text)
    assert line.startswith("raw/okta/system_log: id-[U+202E]5: row 5 polled, row 700 pushed")


def test_a_damaged_tile_is_no_tampering(signed, page):
    tile = signed.log / "tile/0/001"
    tile.write_bytes(tile.read_bytes()[::-1])
    reports.keep(signed.lake, [signed.verify(full=True)])
    shown = page()
    assert "Tampering" not in texts(shown)
    assert "Files are damaged" in texts(shown)
    assert "The rows are as signed" in texts(shown)


def test_the_worst_table_comes_first(signed, page):
    attacks.delete(signed)
    reports.keep(signed.lake, [signed.verify()])
    write_deltalake(str(signed.folder / "lake/raw/a/first"), signed.rows().head(3))
    shown = page().dataframe[0].value
    assert [list(state) for state in shown["state"]] == [["tampered"], ["not signed"]]


def test_the_page_warns_of_unsigned_tables(signed, page):
    write_deltalake(str(signed.folder / "lake/raw/okta/extra"), signed.rows().head(3))
    assert "Some tables are not signed" in texts(page())
