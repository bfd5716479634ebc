"""Open the configured lake, after checking that the user may see it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from dashboard import auth, lake, visits
from dashboard.lake import Lake
from pipelines import settings
from pipelines.clock import utc_now
from pipelines.errors import ConfigurationError
from pipelines.lake import tables

MISCONFIGURED = ConfigurationError


def check_listening() -> None:
    """Exit if the server would listen beyond loopback without sign-in."""
    address = st.get_option("server.address")
    if auth.exposed(_secrets(), address):
        sys.exit(
            f"dashboard: refusing to listen on {address or 'all addresses'} without sign-in: "
            "set dashboard.host to 127.0.0.1, or configure sign-in (docs/dashboard.md)"
        )


def visitor() -> str:
    """Return the user's name. Raises auth.NotSignedIn, auth.Refused or auth.Exposed."""
    name = auth.admitted(_secrets(), st.user.to_dict(), st.get_option("server.address"))
    visits.ADMITTED.note(session(), utc_now())
    return name


def session() -> str:
    """Return the browser's session, as `visits.session` does."""
    return visits.session(st.context.cookies)


def configured() -> Lake:
    """Return the lake of auditlake.toml (`data` without that file). Raises as `visitor` does."""
    visitor()
    return unguarded()


def unguarded() -> Lake:
    """Return the lake without checking the user; never show anything from it."""
    place = _place()
    return lake.held_open(place.root, tuple(sorted((place.storage_options or {}).items())))


def signing() -> tables.Lake:
    """Return the lake as the commands open it, with the keys that sign. Raises as `visitor`."""
    visitor()
    return _place()


def _place() -> tables.Lake:
    path = settings.path_from_environment()
    chosen = settings.load(path) if path.exists() else settings.from_environment()
    return tables.configured(chosen)


def _secrets() -> Mapping[str, Any]:
    try:
        return st.secrets.to_dict()
    # Raised when there is no secrets.toml at all.
    except StreamlitSecretNotFoundError:
        return {}
