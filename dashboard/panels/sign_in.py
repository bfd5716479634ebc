"""The screens that replace a page: sign-in, access denied, and an unprotected server."""

from __future__ import annotations

import streamlit as st

from dashboard import open_lake
from dashboard.access_log import Seen
from dashboard.panels.notices import notice
from pipelines import visible
from pipelines.clock import utc_now

# Sign-in returns to the bare address, so the browser keeps the one that was requested.
_REMEMBER = """<script>
if (location.search || location.pathname !== "/")
  sessionStorage.setItem("auditlake-requested", location.pathname + location.search);
</script>"""
# "//host" would be a redirect to another site.
_RETURN = """<script>
const requested = sessionStorage.getItem("auditlake-requested");
sessionStorage.removeItem("auditlake-requested");
if (requested && requested.startsWith("/") && !requested.startsWith("//") && !location.search)
  location.replace(requested);
</script>"""


def sign_in() -> None:
    st.html(_REMEMBER, unsafe_allow_javascript=True)
    with notice(":material/lock:", "Sign in to see the audit log"):
        st.button("Sign in", type="primary", key="sign_in", on_click=st.login)


def come_back() -> None:
    """After sign-in, redirect to the address that was requested."""
    if st.user.get("is_logged_in"):
        st.html(_RETURN, unsafe_allow_javascript=True)


def refused(who: str) -> None:
    _record_once(who)
    with notice(":material/block:", "This account has no access to the audit log"):
        st.text(visible.text(who))
        st.caption(
            "An administrator of auditlake can grant access: by adding one of your groups to "
            "`allowed_groups`, or your domain to `allowed_domains`, and one of your groups to the "
            "roles if there are any.",
            width="content",
        )
        st.button("Sign out", key="sign_out", on_click=st.logout)


def exposed() -> None:
    with notice(":material/gpp_bad:", "This server is open to other machines"):
        st.caption(
            "Sign-in is not configured, so nothing is shown. Start the dashboard with "
            "`--server.address 127.0.0.1`, or set up sign-in (docs/dashboard.md).",
            width="content",
        )


def _record_once(who: str) -> None:
    # Once per session: every click reruns the script.
    if not st.session_state.get("refusal_recorded"):
        seen = Seen(who=who, what="refused", about="")
        open_lake.unguarded().access.record(utc_now(), seen)
        st.session_state["refusal_recorded"] = True
