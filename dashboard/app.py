"""The dashboard's server: `streamlit run dashboard/app.py`.

The pages are in navigation.py. This server also streams exported files and completes searches. Its
security headers keep the browser from contacting any other host, whatever an event contains, and it
refuses requests of other pages. It does not start where other machines could reach it without
sign-in.

Everything that pages use is imported before the first visitor comes. Each visitor has a thread, and
Altair takes the pandas that another thread is still importing for a complete one.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd  # noqa: F401 the first table would import it
import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from dashboard import completion, exports, open_lake
from dashboard.screens import (  # noqa: F401 the first visitor would import them
    access,
    entities,
    explore,
    findings,
    integrity,
    sources,
)
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
