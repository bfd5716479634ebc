"""The dashboard's server: `streamlit run dashboard/app.py`.

The pages are in navigation.py. It also serves the exported files, piece by piece, and tells the
browser to ask nobody but itself, whatever an event's text may say. It does not start where
strangers could reach it and it would let them in.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from dashboard import exports, open_lake
from dashboard.security_headers import Policy

open_lake.check_listening()
app = st.App(
    Path(__file__).parent / "navigation.py",
    routes=[Route(f"/{exports.FOLDER}/{{ticket}}.{{form}}", exports.serve)],
    middleware=[Middleware(Policy)],
)
