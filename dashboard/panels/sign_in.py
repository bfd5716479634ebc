"""What stands before the pages where people have to sign in, or must not come in at all."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from dashboard import open_lake
from dashboard.access_log import Seen
from dashboard.panels.notices import notice

# Signing in comes back to the bare address; the browser keeps the one that was asked for.
_REMEMBER = """<script>
if (location.search || location.pathname !== "/")
  sessionStorage.setItem("auditlake-asked", location.pathname + location.search);
</script>"""
_RETURN = """<script>
const asked = sessionStorage.getItem("auditlake-asked");
sessionStorage.removeItem("auditlake-asked");
if (asked && asked.startsWith("/") && !asked.startsWith("//") && !location.search)
  location.replace(asked);
</script>"""


def sign_in() -> None:
    st.html(_REMEMBER, unsafe_allow_javascript=True)
    with notice(":material/lock:", "Sign in to see the audit log"):
        st.button("Sign in", type="primary", key="sign_in", on_click=st.login)


def come_back() -> None:
    """After signing in: the address that was asked for."""
    if st.user.get("is_logged_in"):
        st.html(_RETURN, unsafe_allow_javascript=True)


def refused(who: str) -> None:
    _record_once(who)
    with notice(":material/block:", "This account may not see the audit log"):
        st.text(who)
        st.caption(
            "Ask whoever runs auditlake to add one of your groups to `allowed_groups`, or your "
            "domain to `allowed_domains`.",
            width="content",
        )
        st.button("Sign out", key="sign_out", on_click=st.logout)


def exposed() -> None:
    with notice(":material/gpp_bad:", "This server listens beyond this machine"):
        st.caption(
            "and asks nobody to sign in, so it shows nothing. Start it with "
            "`--server.address 127.0.0.1`, or set up sign-in: docs/dashboard.md says how.",
            width="content",
        )


def _record_once(who: str) -> None:
    if not st.session_state.get("refusal_recorded"):
        seen = Seen(who=who, what="refused", about="")
        open_lake.unguarded().access.record(datetime.now(UTC), seen)
        st.session_state["refusal_recorded"] = True
