"""Downloads of a whole search result: streamed, without a row limit or a copy in memory.

The Export menu issues a ticket per file: an unguessable part of the URL that one browser session
may use once, within an hour. Each download is recorded in `access` before the first byte is sent.
"""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from dashboard import queries, visits
from dashboard.access_log import Seen
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Query
from pipelines.clock import utc_now
from pipelines.mapping import export

FOLDER = "files"
FORMS = {"parquet": "Parquet", "csv": "CSV", "ndjson": "NDJSON", "ocsf": "OCSF"}
_ENDING = {"ocsf": "ocsf.ndjson"}
_LASTS = timedelta(hours=1)
_MOST = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """A search result that one user may download."""

    lake: Lake
    snapshot: Snapshot
    query: Query
    who: str
    address: str
    """The search, as query parameters of its page."""
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A finished file that one user may download; it is deleted afterwards."""

    lake: Lake
    path: Path
    name: str
    who: str
    about: str
    events: int | None = None


Wish = tuple[ExportRequest | File, str]
"""The content of a download, and its form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Issued:
    wish: Wish
    session: str
    until: datetime


class Tickets:
    """Downloads by ticket; expired ones and the oldest beyond `_MOST` are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issued: dict[str, _Issued] = {}

    def issue(self, wish: Wish, session: str, now: datetime) -> str:
        """Return a new ticket, valid once, for an hour, in this session."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            kept = [one for one in self._issued.items() if one[1].until > now][-_MOST:]
            dropped = self._issued.keys() - dict(kept).keys()
            for one in dropped:
                _discard(self._issued[one].wish)
            issued = _Issued(wish=wish, session=session, until=now + _LASTS)
            self._issued = {**dict(kept), ticket: issued}
        return ticket

    def take(self, ticket: str, session: str, now: datetime) -> Wish | None:
        """Return the download behind `ticket` and void it; None unless it is this session's."""
        with self._lock:
            found = self._issued.get(ticket)
            # Not voided by another session: it could otherwise spoil the user's download.
            if not session or found is None or found.session != session or found.until <= now:
                return None
            del self._issued[ticket]
        return found.wish


TICKETS = Tickets()


def name(wish: ExportRequest, form: str) -> str:
    """Return the download's file name, which contains the version of `events`."""
    return f"audit-events-v{wish.snapshot.version}.{_ENDING.get(form, form)}"


def serve(request: Request) -> Response:
    """Return the download as an attachment; 404 for a ticket that is void or another session's."""
    session = visits.session(request.cookies)
    found = TICKETS.take(request.path_params["ticket"], session, utc_now())
    if found is None or found[1] != request.path_params["form"]:
        return PlainTextResponse("This link was used or has expired. Open Export again.", 404)
    wish, form = found
    # Recorded first: a download that cannot be recorded must fail.
    _record(wish, form)
    if isinstance(wish, File):
        done = BackgroundTask(_discard, found)
        return FileResponse(wish.path, filename=wish.name, headers=_NOT_CACHED, background=done)
    headers = _NOT_CACHED | {"content-disposition": f'attachment; filename="{name(wish, form)}"'}
    return StreamingResponse(
        chunks(wish, form), headers=headers, media_type="application/octet-stream"
    )


# An audit log must not stay in caches.
_NOT_CACHED = {"cache-control": "no-store"}


def _discard(wish: Wish) -> None:
    if isinstance(wish[0], File):
        shutil.rmtree(wish[0].path.parent, ignore_errors=True)


def chunks(wish: ExportRequest, form: str) -> Iterator[bytes]:
    query = wish.snapshot.resolved(wish.query)
    return export.chunks(queries.matching(wish.snapshot.events, query), form)


def _record(wish: ExportRequest | File, form: str) -> None:
    if isinstance(wish, File):
        about, events, version = wish.about, wish.events, None
    else:
        about, events, version = wish.address, wish.total, wish.snapshot.version
    seen = Seen(
        who=wish.who, what="exported", about=f"{form} {about}", events=events, version=version
    )
    wish.lake.access.record(utc_now(), seen)
