"""The dashboard's page about integrity, over a lake that the pipeline signed."""

import pytest
from deltalake import write_deltalake
from streamlit import config
from streamlit.testing.v1 import AppTest

from dashboard import integrity
from pipelines.integrity import reports
from pipelines.integrity.verifier.log_reader import Shelf
from tests.integrity import attacks
from tests.integrity.worlds import NOON

PAGE = "from dashboard.pages import integrity\nintegrity.show()"


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


def said(page):
    return "\n".join(text.value for text in (*page.markdown, *page.caption))


def test_it_says_how_far_the_last_verification_reached(signed, page):
    assert "not verified yet" in said(page())
    reports.keep(signed.lake, [signed.verify()])
    signed.land(*range(700, 750), day=3)
    shown = page()
    assert "All verified rows are as they were signed" in said(shown)
    assert "750 rows signed, 50 of them since the last verification" in said(shown)
    row = shown.dataframe[0].value.iloc[0]
    assert (row["table"], list(row["state"]), row["signed"]) == (
        "raw/okta/system_log",
        ["verified"],
        750,
    )
    history = shown.dataframe[1].value
    assert history["size"].tolist() == [750, 700, 600, 500, 400, 300, 200, 100]
    assert history["by"][0] == "auditlake"


def test_it_names_what_was_found(signed, page):
    attacks.delete(signed)
    reports.keep(signed.lake, [signed.verify()])
    shown = page()
    assert "Tampering detected: rows differ from what was signed" in said(shown)
    assert "DELETED: row 417 (event_id id-000417)" in shown.dataframe[0].value["found"][0]


def test_a_table_that_nobody_signed_is_told(signed, page):
    write_deltalake(str(signed.folder / "lake/raw/okta/extra"), signed.rows().head(3))
    assert "Some tables are not signed" in said(page())


def test_what_was_read_in_full_is_remembered_beside_what_was_read_since(signed):
    reports.keep(signed.lake, [signed.verify()])
    signed.land(*range(700, 750), day=3)
    reports.keep(signed.lake, [signed.verify()])
    (table,) = integrity.tables(Shelf(root=str(signed.folder / "lake")))
    assert table.all_read_at < table.verified_at
    assert (table.since, table.found, table.state(table.verified_at)) == (0, "", "verified")
    assert (
        integrity.checkpoints(Shelf(root=str(signed.folder / "lake")), table.name, 1)[0].at == NOON
    )
