"""Downloads are complete, recorded and need a ticket; headers and escaping are strict."""

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

from dashboard import escaping, exports
from dashboard.exports import ExportRequest, Tickets
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


def fetched(path: str) -> httpx.Response:
    route = Route(f"/{exports.FOLDER}/{{ticket}}.{{form}}", exports.serve)
    served = Starlette(routes=[route], middleware=[Middleware(Policy)])

    async def fetch() -> httpx.Response:
        transport = httpx.ASGITransport(app=served)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(fetch())


@pytest.mark.parametrize("form", exports.FORMS)
def test_a_download_contains_the_whole_result_and_is_recorded(
    wish: ExportRequest, form: str
) -> None:
    ticket = exports.TICKETS.issue(wish, datetime.now(UTC))
    answer = fetched(f"/{exports.FOLDER}/{ticket}.{form}")
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


@pytest.mark.parametrize("path", ["guessed.csv", "guessed.parquet", "{}.exe"])
def test_nothing_is_sent_without_a_ticket(wish: ExportRequest, path: str) -> None:
    ticket = exports.TICKETS.issue(wish, datetime.now(UTC))
    assert fetched(f"/{exports.FOLDER}/{path.format(ticket)}").status_code == 404
    assert wish.lake.access.newest(1).is_empty()


def test_a_ticket_expires(wish: ExportRequest) -> None:
    tickets = Tickets()
    ticket = tickets.issue(wish, NOW)
    assert tickets.wish(ticket, NOW + timedelta(minutes=59)) == wish
    assert tickets.wish(ticket, NOW + timedelta(minutes=61)) is None
    assert tickets.issue(wish, NOW) != ticket


def test_the_security_policy_allows_no_other_host() -> None:
    headers = fetched("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


@given(st.text())
def test_escaped_text_contains_no_markdown(text: str) -> None:
    harmless = re.sub(r"&#\d+;", "", escaping.markdown(text))
    assert re.fullmatch(r"[^\W_]*( [^\W_]*)*", harmless)
