"""The pages and their navigation: the script that app.py serves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import streamlit as st

from dashboard import auth, findings, lake, open_lake, session
from dashboard.panels import notices, sign_in
from dashboard.screens import access, entities, explore, integrity, sources
from dashboard.screens import findings as findings_screen

STATIC = Path(__file__).parent / "static"


def main() -> None:
    st.set_page_config(
        page_title="auditlake",
        page_icon=str(STATIC / "favicon.svg"),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    st.logo(str(STATIC / "logo.svg"), size="small")
    st.html(STATIC / "style.css")
    try:
        open_lake.visitor()
        sign_in.come_back()
        with open_lake.one_reading():
            _pages().run()
    except auth.NotSignedIn:
        sign_in.sign_in()
    except auth.Refused as error:
        sign_in.refused(str(error))
    except auth.Exposed:
        sign_in.exposed()
    except lake.UNREADABLE as error:
        notices.unreadable(error)
    except open_lake.MISCONFIGURED as error:
        notices.misconfigured(error)


def _pages() -> st.Page:
    pages = {
        "explore": st.Page(
            explore.show, title="Explore", icon=":material/manage_search:", default=True
        ),
        "findings": st.Page(
            findings_screen.show, title=_findings(), icon=":material/flag:", url_path="findings"
        ),
        "entities": st.Page(
            entities.show, title="Entities", icon=":material/person_search:", url_path="entities"
        ),
        "sources": st.Page(
            sources.show, title="Sources", icon=":material/monitor_heart:", url_path="sources"
        ),
        "integrity": st.Page(
            integrity.show,
            title="Integrity",
            icon=":material/verified_user:",
            url_path="integrity",
        ),
        "visits": st.Page(access.show, title="Access", icon=":material/policy:", url_path="access"),
    }
    session.introduce(pages)
    shown = st.navigation(list(pages.values()), position="top")
    session.come_back(next((name for name, page in pages.items() if page == shown), ""))
    return shown


def _findings() -> str:
    """Return the title of the page Findings, with the number of urgent ones that are open."""
    n = 0
    # Each page reports for itself that the lake cannot be read.
    with suppress(*lake.UNREADABLE):
        n = findings.urgent(open_lake.configured().cases())
    return f"Findings ({n:,})" if n else "Findings"


main()
