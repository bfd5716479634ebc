"""A whole result as a file to take away, written while it is sent: no cap, and no copy in memory.

A page that may be seen hands out a ticket for its search, which nobody can guess and which lapses;
what is sent for it is recorded before the first byte leaves.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dashboard import queries
from dashboard.access_log import Seen
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Query
from pipelines.mapping import export

FOLDER = "files"
FORMS = {"parquet": "Parquet", "csv": "CSV", "ndjson": "NDJSON", "ocsf": "OCSF"}
_ENDING = {"ocsf": "ocsf.ndjson"}
_LASTS = timedelta(hours=1)
_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A result that somebody may take away."""

    lake: Lake
    snapshot: Snapshot
    query: Query
    who: str
    address: str
    """The search as its page's address spells it."""
    total: int


class Tickets:
    """Wishes by the words they are asked for with; the oldest are forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: dict[str, tuple[Wish, datetime]] = {}

    def issue(self, wish: Wish, now: datetime) -> str:
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            kept = [one for one in self._wishes.items() if one[1][1] > now][-_MOST:]
            self._wishes = {**dict(kept), ticket: (wish, now + _LASTS)}
        return ticket

    def wish(self, ticket: str, now: datetime) -> Wish | None:
        found = self._wishes.get(ticket)
        return found[0] if found and found[1] > now else None


TICKETS = Tickets()


def name(wish: Wish, form: str) -> str:
    return f"audit-events-v{wish.snapshot.version}.{_ENDING.get(form, form)}"


def serve(request: Request) -> Response:
    form = request.path_params["form"]
    wish = TICKETS.wish(request.path_params["ticket"], datetime.now(UTC))
    if wish is None or form not in FORMS:
        return PlainTextResponse("This link has lapsed: open Export on the page again.", 404)
    headers = {
        "content-disposition": f'attachment; filename="{name(wish, form)}"',
        "cache-control": "no-store",
    }
    _record(wish, form)
    return StreamingResponse(
        chunks(wish, form), headers=headers, media_type="application/octet-stream"
    )


def chunks(wish: Wish, form: str) -> Iterator[bytes]:
    return export.chunks(queries.matching(wish.snapshot.events, wish.query), form)


def _record(wish: Wish, form: str) -> None:
    seen = Seen(
        who=wish.who,
        what="exported",
        about=f"{form} {wish.address}",
        events=wish.total,
        version=wish.snapshot.version,
    )
    wish.lake.access.record(datetime.now(UTC), seen)
