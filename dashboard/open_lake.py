"""Which lake the dashboard shows, and to whom: nothing of it is read before that is settled."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from dashboard import auth, lake
from dashboard.lake import Lake
from pipelines import settings
from pipelines.errors import ConfigurationError

MISCONFIGURED = ConfigurationError


def check_listening() -> None:
    """Ends the process where others could reach a server that asks nobody to sign in."""
    address = st.get_option("server.address")
    if auth.exposed(_secrets(), address):
        sys.exit(
            f"dashboard: it would listen on {address or 'every address'} and asks nobody to sign "
            "in: set dashboard.host to 127.0.0.1, or set up sign-in (docs/dashboard.md)"
        )


def visitor() -> str:
    """Who is asking. Raises people.NotSignedIn, people.Refused or people.Exposed."""
    return auth.admitted(_secrets(), st.user.to_dict(), st.get_option("server.address"))


def configured() -> Lake:
    """The lake of auditlake.toml, for those who may see it; without that file, of `data`."""
    visitor()
    return unguarded()


def unguarded() -> Lake:
    path = settings.path_from_environment()
    chosen = settings.load(path).lake if path.exists() else settings.Settings().lake
    options = {key: secret.get_secret_value() for key, secret in chosen.storage_options.items()}
    return lake.held_open(chosen.root, tuple(sorted(options.items())))


def _secrets() -> Mapping[str, Any]:
    try:
        return st.secrets.to_dict()
    except StreamlitSecretNotFoundError:
        return {}
