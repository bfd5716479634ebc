"""Downloads of a whole search result: streamed, without a row limit or a copy in memory.

The Export menu issues a ticket for its search: an unguessable part of the URL that expires after an
hour. Each download is recorded in `access` before the first byte is sent.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dashboard import queries
from dashboard.access_log import Seen
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Query
from pipelines.clock import utc_now
from pipelines.mapping import export

FOLDER = "files"
FORMS = {"parquet": "Parquet", "csv": "CSV", "ndjson": "NDJSON", "ocsf": "OCSF"}
_ENDING = {"ocsf": "ocsf.ndjson"}
_LASTS = timedelta(hours=1)
_MOST = 1000


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


class Tickets:
    """Downloads by ticket; expired ones and the oldest beyond `_MOST` are dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: dict[str, tuple[ExportRequest, datetime]] = {}

    def issue(self, wish: ExportRequest, now: datetime) -> str:
        """Return a new ticket for `wish`, valid for an hour."""
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            kept = [one for one in self._wishes.items() if one[1][1] > now][-_MOST:]
            self._wishes = {**dict(kept), ticket: (wish, now + _LASTS)}
        return ticket

    def wish(self, ticket: str, now: datetime) -> ExportRequest | None:
        """Return the download behind `ticket`; None if it is unknown or has expired."""
        found = self._wishes.get(ticket)
        return found[0] if found and found[1] > now else None


TICKETS = Tickets()


def name(wish: ExportRequest, form: str) -> str:
    """Return the download's file name, which contains the version of `events`."""
    return f"audit-events-v{wish.snapshot.version}.{_ENDING.get(form, form)}"


def serve(request: Request) -> Response:
    """Return the export as a streamed attachment; 404 for an unknown or expired ticket."""
    form = request.path_params["form"]
    wish = TICKETS.wish(request.path_params["ticket"], utc_now())
    if wish is None or form not in FORMS:
        return PlainTextResponse("This link has expired. Open Export on the page again.", 404)
    # An audit log must not stay in caches.
    headers = {
        "content-disposition": f'attachment; filename="{name(wish, form)}"',
        "cache-control": "no-store",
    }
    # Recorded first: a download that cannot be recorded must fail.
    _record(wish, form)
    return StreamingResponse(
        chunks(wish, form), headers=headers, media_type="application/octet-stream"
    )


def chunks(wish: ExportRequest, form: str) -> Iterator[bytes]:
    return export.chunks(queries.matching(wish.snapshot.events, wish.query), form)


def _record(wish: ExportRequest, form: str) -> None:
    seen = Seen(
        who=wish.who,
        what="exported",
        about=f"{form} {wish.address}",
        events=wish.total,
        version=wish.snapshot.version,
    )
    wish.lake.access.record(utc_now(), seen)
