"""Open the configured lake, after checking that the user may see it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

from dashboard import auth, lake, visits
from dashboard.lake import Lake
from dashboard.sight import NOTHING, Sight
from pipelines import settings
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.integrity import last_signed, retired_streams
from pipelines.integrity.verifier import known_checkpoints
from pipelines.lake import tables
from pipelines.lake.stream_state import Intended, Key
from pipelines.settings import Settings

MISCONFIGURED = ConfigurationError
_reading: ContextVar[list[Settings] | None] = ContextVar("reading", default=None)


@contextmanager
def one_reading() -> Iterator[None]:
    """Read the settings once at most in this context, such as a run of the page."""
    before = _reading.set([])
    try:
        yield
    finally:
        _reading.reset(before)


def _settings() -> Settings:
    """Return the settings as they are now, or as they were read first in `one_reading`."""
    known = _reading.get()
    if known is None:
        return settings.found()
    if not known:
        known.append(settings.found())
    return known[0]


def check_listening() -> None:
    """Exit if the server would listen beyond loopback without sign-in, or with a weak one."""
    if reason := auth.refusal(_secrets(), st.get_option("server.address")):
        sys.exit(f"dashboard: refusing to {reason}")


def public_names() -> frozenset[str]:
    """Return the hosts by which browsers reach the server, apart from those of loopback."""
    redirect = urlsplit(str(_secrets().get("auth", {}).get("redirect_uri", ""))).netloc
    options = map(st.get_option, ("server.address", "browser.serverAddress"))
    return frozenset(filter(None, (redirect, *options, *settings.public_names("dashboard"))))


def visitor() -> str:
    """Return the user's name. Raises auth.NotSignedIn, auth.Refused or auth.Exposed."""
    name = auth.admitted(_secrets(), st.user.to_dict(), st.get_option("server.address"))
    visits.ADMITTED.note(session(), utc_now(), _sight())
    return name


def sight() -> Sight:
    """Return which integrations the user may see. Raises as `visitor` does."""
    visitor()
    return _sight()


def sees_everything() -> bool:
    """Return True if the user may see all integrations; False also if that cannot be known."""
    try:
        return not sight().limited
    except (ConfigurationError, auth.NotSignedIn, auth.Refused, auth.Exposed):
        return False


def _sight() -> Sight:
    return auth.sight(_secrets(), st.user.to_dict())


def session() -> str:
    """Return the browser's session, as `visits.session` does."""
    return visits.session(st.context.cookies)


def configured() -> Lake:
    """Return the lake of auditlake.toml (`data` without that file), as the user may see it.

    Raises as `visitor` does.
    """
    return seen_by(sight())


def unguarded() -> Lake:
    """Return the lake without checking the user: it shows nothing, but records refusals."""
    return seen_by(NOTHING)


def seen_by(sight: Sight) -> Lake:
    """Return the lake with the integrations that an admitted visitor may see."""
    chosen = _settings()
    place = tables.configured(chosen)
    options = tuple(sorted((place.storage_options or {}).items()))
    return lake.held_open(place.root, options, _notes(chosen, place), sight)


def intended() -> Intended:
    """Return the streams that are to be polled, and the retired ones; as configured here."""
    chosen = _settings()
    configured = chosen.polls if chosen.integrations else None
    return Intended(configured=configured, retired=_retired(tables.configured(chosen).root))


@st.cache_data(ttl=60, show_spinner=False)
def _retired(root: str) -> dict[Key, datetime]:
    with suppress(AuditlakeError, OSError):  # the page Integrity shows acts that cannot be read
        return retired_streams.retired(_place())
    return {}


def signing() -> tables.Lake:
    """Return the lake as the commands open it, with the keys that sign. Raises as `visitor`."""
    visitor()
    return _place()


def _place() -> tables.Lake:
    return tables.configured(_settings())


def _notes(chosen: Settings, place: tables.Lake) -> str | None:
    """Return the folder for the tables that the dashboard writes; None: the lake itself.

    Who looked at a read-only lake is recorded too, in the operator's own folder.
    """
    if place.local is None or not place.local.is_dir() or os.access(place.local, os.W_OK):
        return None
    name = hashlib.sha256(place.root.encode()).hexdigest()[:16]
    folder = chosen.integrity.folder.expanduser().absolute() / "access" / name
    # The mode does not apply to parents.
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    return str(folder)


def raw_records() -> dict[str, int | None]:
    """Return the rows of each raw table; None for one that this machine signed but is gone.

    Only those of integrations that the user may see.
    """
    chosen, opened = _settings(), configured()
    memory = last_signed.folder(tables.configured(chosen), chosen.integrity)
    signed = known_checkpoints.logs(memory, chosen.integrity.name, ())
    logs = {*opened.shelf.pairs("raw"), *signed}
    return {log: opened.count(f"raw/{log}") for log in logs if opened.sight.has_log(log)}


def _secrets() -> Mapping[str, Any]:
    try:
        return st.secrets.to_dict()
    # Raised when there is no secrets.toml at all.
    except StreamlitSecretNotFoundError:
        return {}
