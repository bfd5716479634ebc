"""The dashboard's shell: `streamlit run dashboard/app.py`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import lake, opening
from dashboard.pages import explore, sources
from dashboard.panels import notices

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
    page = st.navigation(
        [
            st.Page(explore.show, title="Explore", icon=":material/manage_search:", default=True),
            st.Page(
                sources.show, title="Sources", icon=":material/monitor_heart:", url_path="sources"
            ),
        ],
        position="top",
    )
    try:
        page.run()
    except lake.UNREADABLE as error:
        notices.unreadable(error)
    except opening.MISCONFIGURED as error:
        notices.misconfigured(error)


main()
