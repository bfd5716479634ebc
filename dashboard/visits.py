"""Which browsers may use the server's own routes: those whose session showed a page.

Streamlit's checks end at its WebSocket; files and completions are plain requests. Each browser gets
a cookie of its own, and a request counts only with the cookie and the sign-in of an admitted page.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

from dashboard.sight import Sight

COOKIE = "auditlake_browser"
_SIGN_IN = "_streamlit_user"
_LASTS = timedelta(hours=1)  # since the page last ran
_MOST = 10_000


def new_cookie() -> str:
    """Return a cookie for a browser that has none; scripts and other sites cannot use it."""
    # Not Strict: on return from the provider's sign-in the browser would get another one.
    return f"{COOKIE}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; SameSite=Lax"


def session(cookies: Mapping[str, str]) -> str:
    """Return the identity of the browser and its sign-in; "" if it has no cookie."""
    if not cookies.get(COOKIE):
        return ""
    signed_in = sorted(item for item in cookies.items() if item[0].startswith(_SIGN_IN))
    return hashlib.sha256(repr((cookies[COOKIE], signed_in)).encode()).hexdigest()


class Admitted:
    """The sessions that may see the lake: the time of each one's last page, and its sight then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[datetime, Sight]] = {}

    def note(self, session: str, now: datetime, sight: Sight) -> None:
        if not session:
            return
        with self._lock:
            # Moved to the end, so that the oldest is dropped.
            self._seen.pop(session, None)
            self._seen[session] = now, sight
            if len(self._seen) > _MOST:
                self._seen.pop(next(iter(self._seen)))

    def sight(self, session: str, now: datetime) -> Sight | None:
        """Return which integrations the session may see; None if it is not admitted."""
        seen = self._seen.get(session)
        return seen[1] if seen is not None and now - seen[0] < _LASTS else None


ADMITTED = Admitted()
