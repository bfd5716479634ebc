"""Downloads are complete, recorded, and need a ticket of the session; each works once."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import httpx
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from dashboard import escaping, exports, visits
from dashboard.exports import ExportRequest, File, Tickets
from dashboard.lake import Lake
from dashboard.queries import Filter, Query
from dashboard.security_headers import Policy
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROWS = [*small_lakes.events(300, end=NOW), small_lakes.hostile(999, NOW)]


@pytest.fixture
def wish(tmp_path: Path) -> ExportRequest:
    small_lakes.append(tmp_path, ROWS)
    lake = Lake(str(tmp_path), {})
    snapshot = lake.look()
    assert snapshot
    query = Query(
        since=NOW - timedelta(days=7),
        until=NOW + timedelta(seconds=1),
        filters=(Filter(field="integration", value="okta"),),
    )
    return ExportRequest(
        lake=lake, snapshot=snapshot, query=query, who="ada", address="f=okta", total=9
    )


OURS = {visits.COOKIE: "ours", "_streamlit_user": "ada"}


def issued(wish: ExportRequest | File, form: str, cookies: dict[str, str] = OURS) -> str:
    """Return the path of a new link."""
    session = visits.session(cookies)
    ticket = exports.TICKETS.issue((wish, form), session, datetime.now(UTC))
    return f"/{exports.FOLDER}/{ticket}.{form}"


def fetched(path: str, cookies: dict[str, str] = OURS) -> httpx.Response:
    route = Route(f"/{exports.FOLDER}/{{ticket}}.{{form}}", exports.serve)
    served = Starlette(routes=[route], middleware=[Middleware(Policy)])

    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(app=served)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", cookies=cookies
        ) as client:
            return await client.get(path)

    return asyncio.run(fetch())


@pytest.mark.parametrize("form", exports.FORMS)
def test_a_download_contains_the_whole_result_and_is_recorded(
    wish: ExportRequest, form: str
) -> None:
    answer = fetched(issued(wish, form))
    expected = sum(row["integration"] == "okta" for row in ROWS)
    assert rows(answer.content, form) == expected
    assert "attachment" in answer.headers["content-disposition"]
    record = wish.lake.access.newest(1).row(0, named=True)
    assert (record["who"], record["what"], record["about"]) == ("ada", "exported", f"{form} f=okta")


def rows(data: bytes, form: str) -> int:
    match form:
        case "parquet":
            return pl.read_parquet(BytesIO(data)).height
        case "csv":
            return pl.read_csv(BytesIO(data)).height
    return len(data.splitlines())


def test_nothing_is_sent_without_a_ticket_for_this_form(wish: ExportRequest) -> None:
    for path in ("/files/guessed.csv", issued(wish, "csv").replace(".csv", ".parquet")):
        assert fetched(path).status_code == 404
    assert wish.lake.access.newest(1).is_empty()


@pytest.mark.parametrize(
    "cookies",
    [{}, {visits.COOKIE: "other"}, {visits.COOKIE: "ours"}, OURS | {"_streamlit_user": "eve"}],
)
def test_a_link_works_in_no_other_session(wish: ExportRequest, cookies: dict[str, str]) -> None:
    path = issued(wish, "csv")
    assert fetched(path, cookies).status_code == 404
    assert wish.lake.access.newest(1).is_empty()
    assert fetched(path).status_code == 200


def test_a_link_works_once(wish: ExportRequest) -> None:
    path = issued(wish, "csv")
    assert fetched(path).status_code == 200
    again = fetched(path)
    assert again.status_code == 404
    assert "Open Export again" in again.text
    assert wish.lake.access.newest(9).height == 1


def test_a_link_issued_to_a_page_without_a_session_never_works(wish: ExportRequest) -> None:
    assert fetched(issued(wish, "csv", {}), {}).status_code == 404


def test_a_ticket_expires(wish: ExportRequest) -> None:
    tickets = Tickets()
    for minutes, expected in ((59, (wish, "csv")), (61, None)):
        ticket = tickets.issue((wish, "csv"), "ours", NOW)
        assert tickets.take(ticket, "ours", NOW + timedelta(minutes=minutes)) == expected


def test_a_finished_file_is_recorded_sent_and_deleted(wish: ExportRequest, tmp_path: Path) -> None:
    path = tmp_path / "job" / "evidence.zip"
    path.parent.mkdir()
    path.write_bytes(b"proof")
    file = File(lake=wish.lake, path=path, name=path.name, who="ada", about="f=okta", events=3)
    answer = fetched(issued(file, "zip"))
    assert answer.content == b"proof"
    assert 'filename="evidence.zip"' in answer.headers["content-disposition"]
    assert answer.headers["cache-control"] == "no-store"
    record = wish.lake.access.newest(1).row(0, named=True)
    assert (record["what"], record["about"], record["events"]) == ("exported", "zip f=okta", 3)
    assert not path.parent.exists()


def test_an_expired_file_is_deleted(wish: ExportRequest, tmp_path: Path) -> None:
    path = tmp_path / "job" / "evidence.zip"
    path.parent.mkdir()
    path.write_bytes(b"proof")
    file = File(lake=wish.lake, path=path, name=path.name, who="ada", about="")
    tickets = Tickets()
    tickets.issue((file, "zip"), "ours", NOW)
    tickets.issue((wish, "csv"), "ours", NOW + timedelta(hours=2))
    assert not path.parent.exists()


def test_the_security_policy_allows_no_other_host() -> None:
    headers = fetched("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


@given(st.text())
def test_escaped_text_contains_no_markdown(text: str) -> None:
    harmless = re.sub(r"&#\d+;", "", escaping.markdown(text))
    assert re.fullmatch(r"[^\W_]*( [^\W_]*)*", harmless)
