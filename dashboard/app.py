"""The dashboard's server: `streamlit run dashboard/app.py`.

The pages are in navigation.py. This server also streams exported files and completes searches. Its
security headers keep the browser from contacting any other host, whatever an event contains, and it
refuses requests of other pages. It does not start where other machines could reach it without
sign-in.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from dashboard import completion, exports, open_lake
from dashboard.security_headers import Policy
from dashboard.streamlit_files import StreamlitFiles
from pipelines.settings.browser_guard import BrowserGuard

open_lake.check_listening()
app = st.App(
    Path(__file__).parent / "navigation.py",
    routes=[
        Route(f"/{exports.FOLDER}/{{ticket}}.{{form}}", exports.serve),
        Route("/complete", completion.serve, methods=["POST"]),
    ],
    middleware=[
        Middleware(BrowserGuard, names=open_lake.public_names()),
        Middleware(Policy),
        Middleware(StreamlitFiles),
    ],
)
