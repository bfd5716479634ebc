"""Visitors of a limited role learn nothing of other integrations, on any page or route."""

from __future__ import annotations

import ast
import asyncio
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.routing import Route
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.forward_msg_queue import ForwardMsgQueue
from streamlit.testing.v1 import AppTest

from dashboard import completion, counts, exports, fields, queries, significant, visits
from dashboard.exports import ExportRequest
from dashboard.lake import Lake, Snapshot
from dashboard.panels import export
from dashboard.queries import Filter, Query
from dashboard.sight import EVERYTHING, NOTHING, Sight
from pipelines.integrity import coverage_certificate, evidence
from pipelines.lake import rollup, row_codes
from pipelines.schemas import ROLLUPS
from pipelines.sdk.pages import Span
from tests.dashboard import identity, two_integrations
from tests.dashboard.conftest import free_port, serving
from tests.dashboard.hands import settled
from tests.dashboard.panels.test_sign_in import SECRETS, sign_in
from tests.dashboard.shown import App, shown_text
from tests.dashboard.two_integrations import EVENTS_SEEN, HIDDEN, MARKS, NOW, SEEN
from tests.integrity.worlds import NOON, Signed

OKTA = Sight(integrations=frozenset({"okta"}))
MONTH = {"range": "30d"}
EVER = Query(since=NOW - timedelta(days=30), until=NOW + timedelta(days=1))
SHOWN = [
    ("explore", MONTH | {"by": "source_ip", "sort": "-source_ip"}),
    ("explore", MONTH | {"f": "country:GB", "tab": "out"}),
    ("explore", MONTH | {"q": "203.0.113.7", "ready": "dormant"}),
    ("entities", {}),
    ("entities", {"kind": "source_ip", "v": "203.0.113.7"}),
    ("sources", {}),
    ("integrity", {}),
    ("access", {}),
    ("findings", {}),
    ("findings", {"show": "all", "hidden": "1"}),
    ("findings", {"show": "noise"}),
    ("findings", {"show": "exceptions"}),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two")
    two_integrations.fill(root, NOW)
    return root


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All messages to the browser, as bytes: texts, tables, charts and labels."""
    messages: list[bytes] = []
    enqueue = ForwardMsgQueue.enqueue

    def noting(self: ForwardMsgQueue, message: ForwardMsg) -> None:
        messages.append(message.SerializeToString())
        enqueue(self, message)

    monkeypatch.setattr(ForwardMsgQueue, "enqueue", noting)
    return messages


def visit(script: str, group: str, address: dict[str, str]) -> AppTest:
    page = AppTest.from_string(script, default_timeout=120)
    page.secrets["auth"] = {"client_id": "x", "cookie_secret": "y"}
    page.secrets["auditlake"] = two_integrations.SECRETS
    page.user = {"is_logged_in": True, "sub": "17", "iss": "https://id", "groups": [group]}
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def script(page: str) -> str:
    return f"from dashboard.screens import {page}\n{page}.show()"


def marks(texts: list[bytes], known: tuple[str, ...] = MARKS) -> set[str]:
    whole = b"\n".join(texts)
    return {mark for mark in known if mark.encode() in whole}


@pytest.mark.parametrize(("page", "address"), SHOWN)
def test_no_page_shows_a_value_of_another_integration(
    app: App, root: Path, sent: list[bytes], page: str, address: dict[str, str]
) -> None:
    app(root)
    visit(script(page), "helpdesk", address)
    assert len(sent) > 3
    assert marks(sent) == set()


@pytest.mark.parametrize(
    "page", ["explore", "entities", "sources", "integrity", "access", "findings"]
)
def test_a_role_for_all_integrations_is_shown_both(
    app: App, root: Path, sent: list[bytes], page: str
) -> None:
    app(root)
    address = {"explore": MONTH, "findings": {"show": "all"}}.get(page, {})
    visit(script(page), "audit", address)
    assert "zebra" in marks(sent)


VIEWS = "from dashboard.panels import header\nheader._saved()"


def test_views_that_others_saved_are_not_listed(app: App, root: Path, sent: list[bytes]) -> None:
    app(root)
    visit(VIEWS, "helpdesk", {})
    assert marks(sent) == set()
    visit(VIEWS, "audit", {})
    assert "zebra" in marks(sent)


def test_a_link_to_an_event_of_another_integration_finds_no_more_than_a_wrong_one(
    app: App, root: Path
) -> None:
    app(root)
    found = two_integrations.link(NOW, HIDDEN)
    day = found.partition("/")[0]
    texts = []
    for event in (found, f"{day}/vault:zebra_log:99999999"):
        page = visit(script("explore"), "helpdesk", MONTH | {"ev": event})
        assert "The lake has no such event" in shown_text(page)
        texts.append([text.value.replace(event.partition("/")[2], "UID") for text in page.text])
    assert texts[0] == texts[1]
    shown = visit(script("explore"), "audit", MONTH | {"ev": found})
    assert "The lake has no such event" not in shown_text(shown)


def test_the_newest_day_is_that_of_the_visible_events(app: App, root: Path) -> None:
    app(root)
    page = visit(script("explore"), "helpdesk", MONTH | {"q": "there_is_no_such_word"})
    newest = two_integrations.link(NOW, SEEN).partition("/")[0]
    assert f"{datetime.fromisoformat(newest):%d %b %Y} (UTC)" in shown_text(page)


def test_without_a_role_nobody_is_admitted(app: App, root: Path, sent: list[bytes]) -> None:
    shell = app(root)
    shell.secrets["auth"] = {"client_id": "x", "cookie_secret": "y"}
    shell.secrets["auditlake"] = two_integrations.SECRETS
    shell.user = {"is_logged_in": True, "sub": "17", "iss": "https://id", "groups": ["guests"]}
    shell.run()
    assert "This account has no access to the audit log" in shown_text(shell)
    assert marks(sent) == set()


def test_an_error_of_the_configuration_is_not_shown_where_it_may_name_others(
    app: App, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: list[bytes]
) -> None:
    shell = app(root)
    (tmp_path / "faulty.toml").write_text('[lake]\nvault = "zebra"\n')
    monkeypatch.setenv("AUDITLAKE_CONFIG", str(tmp_path / "faulty.toml"))
    shell.secrets["auth"] = {"client_id": "x", "cookie_secret": "y"}
    shell.secrets["auditlake"] = two_integrations.SECRETS
    shell.user = {"is_logged_in": True, "sub": "17", "iss": "https://id", "groups": ["helpdesk"]}
    shell.run()
    assert "Invalid configuration" in shown_text(shell)
    assert marks(sent) == set()


@pytest.fixture(scope="module")
def limited(root: Path) -> Lake:
    return Lake(str(root), {}, None, OKTA)


@pytest.fixture
def snapshot(limited: Lake) -> Snapshot:
    found = limited.look()
    assert found
    return found


def test_rows_days_and_counts_are_those_of_the_visible_events(
    snapshot: Snapshot, root: Path
) -> None:
    everything = Lake(str(root), {}).look()
    assert everything
    ours = everything.events.filter(pl.col("integration") == "okta")
    days = ours.group_by("date").len().sort("date", descending=True).collect().rows()
    assert snapshot.ask(queries.days, EVER) == tuple(days)
    assert snapshot.days == sorted(day for day, _ in days)
    assert snapshot.rows == EVENTS_SEEN < everything.rows
    assert snapshot.ask(queries.summary, EVER).events == EVENTS_SEEN


@pytest.mark.parametrize("text", ["", "outcome:success"])
def test_menus_count_the_visible_events_alone(snapshot: Snapshot, root: Path, text: str) -> None:
    everything = Lake(str(root), {}).look()
    assert everything
    query = Query(since=EVER.since, until=EVER.until, text=text)
    ours = (*query.filters, Filter(field="integration", value="okta"))
    narrowed = Query(since=query.since, until=query.until, text=text, filters=ours)
    for field in fields.NAMES:
        found = snapshot.ask(queries.values, query, field, 500)
        assert found.equals(everything.ask(queries.values, narrowed, field, 500)), field


def test_filters_find_the_visible_events_alone(snapshot: Snapshot) -> None:
    for wanted in (
        Filter(field="source_ip", value="203.0.113.7"),
        Filter(field="integration", value="vault"),
        Filter(field="target", value="zebra-target_name"),
        Filter(field="actor", value="zebra@acme.example"),
        Filter(field="country", value="GB", negated=True),
    ):
        query = Query(since=EVER.since, until=EVER.until, filters=(wanted,))
        counted = sum(n for _, n in snapshot.ask(queries.days, query))
        listed = snapshot.counts.events(query).select("integration").collect()["integration"]
        assert set(listed) <= {"okta"}
        assert counted == len(listed)


def test_what_stands_out_is_compared_with_the_visible_events_alone(snapshot: Snapshot) -> None:
    query = Query(since=EVER.since, until=EVER.until, text="203.0.113.7")
    found = snapshot.ask(significant.found, query, "share")
    assert not any("zebra" in value for value in found["value"])
    compared = sum(n for _, n in snapshot.ask(queries.days, significant.baseline(query)))
    assert compared == EVENTS_SEEN


def test_new_events_of_others_are_none_for_a_limited_visitor(tmp_path: Path) -> None:
    two_integrations.fill(tmp_path, NOW)
    lake = Lake(str(tmp_path), {}, None, OKTA)
    before = lake.look()
    rows = two_integrations._hidden(NOW + timedelta(hours=1))
    two_integrations.small_lakes.append(tmp_path, rows[-7:])
    after = lake.look()
    assert before
    assert after
    assert after is not before
    assert after.ask(queries.added, EVER, before.counts) == 0
    assert after.rows == EVENTS_SEEN


def test_raw_records_and_streams_of_others_do_not_exist(limited: Lake, root: Path) -> None:
    day = NOW.date() - timedelta(days=1)
    row = pl.read_delta(str(root / HIDDEN.table)).filter(date=day).row(0, named=True)
    assert Lake(str(root), {}).record(*HIDDEN, day, row["seq"])
    assert limited.record(*HIDDEN, day, row["seq"]) is None
    assert limited.count(HIDDEN.table) is None
    assert limited.ask(HIDDEN.table, queries.newest_push, day) is None
    assert limited.raws([HIDDEN]) == {}
    assert limited.pending({tuple(HIDDEN): 0}) == ()


@pytest.mark.parametrize("form", exports.FORMS)
def test_exports_have_the_visible_events_alone(
    limited: Lake, snapshot: Snapshot, form: str
) -> None:
    wish = ExportRequest(
        lake=limited, snapshot=snapshot, query=EVER, who="", address="", total=EVENTS_SEEN
    )
    content = b"".join(exports.chunks(wish, form))
    if form == "parquet":
        content = pl.read_parquet(io.BytesIO(content)).write_ndjson().encode()
    assert b"okta" in content
    assert marks([content]) == set()


def test_the_search_box_completes_visible_values_alone(
    app: App, root: Path, snapshot: Snapshot
) -> None:
    app(root)
    served = Starlette(routes=[Route("/complete", completion.serve, methods=["POST"])])
    cookies = {visits.COOKIE: "limited", "_streamlit_user": "ada"}
    visits.ADMITTED.note(visits.session(cookies), datetime.now(NOW.tzinfo), OKTA)

    async def post(text: str) -> str:
        transport = httpx.ASGITransport(app=served)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", cookies=cookies
        ) as client:
            return (await client.post("/complete", content=text)).text

    found = {field: asyncio.run(post(f"{field}:")) for field in fields.NAMES}
    assert '"text":"okta"' in found["integration"]
    assert marks([text.encode() for text in found.values()]) == set()
    assert asyncio.run(post("integration:va")).count("text") == 0
    # Their values are not counted by integration.
    assert completion.complete(snapshot.counts, "source_ip:").choices == []


def test_nothing_is_seen_before_anybody_is_admitted(root: Path) -> None:
    lake = Lake(str(root), {}, None, NOTHING)
    found = lake.look()
    assert found
    assert found.rows == 0
    assert found.events.collect().is_empty()
    assert lake.ask("streams", lambda rows: rows.collect().height) == 0
    assert lake.access.newest(9).is_empty()


def test_persons_are_those_of_visible_records(snapshot: Snapshot) -> None:
    found = snapshot.events.select("person").collect()["person"].drop_nulls().unique()
    assert not any("zebra" in person for person in found)


def test_a_table_of_an_answer_keeps_no_bytes_of_other_rows() -> None:
    whole = pl.DataFrame({"n": [1, 2], "text": ["zebra" * 9, None], "at": [NOW, NOW]})
    # As a reader may leave it: null, above the text of another row.
    masked = whole.with_columns(text=pl.when(pl.col("n") > 1).then("text"))
    found = OKTA.answer(masked)
    assert found.equals(masked)
    assert found.schema == masked.schema
    assert marks([found.write_ipc(None, compat_level=pl.CompatLevel.oldest()).getvalue()]) == set()
    assert EVERYTHING.answer(masked) is masked
    assert OKTA.answer(3) == 3


def test_aggregates_that_do_not_name_an_integration_are_left_out() -> None:
    parts = [*rollup.PARTS, rollup.FILES, rollup.TEXTS, rollup.WHOM, rollup.IDENTITIES]
    parts.append(row_codes.CODES)
    rows = [{"part": part, "integration": one} for part in parts for one in ("okta", "x", None)]
    frame = pl.DataFrame(rows, schema=ROLLUPS).lazy()
    kept = OKTA.aggregates(frame).select("part", "integration").collect()
    others = kept.filter(~pl.col("part").is_in([rollup.FILES, rollup.TEXTS]))
    assert set(others["integration"]) == {"okta"}
    assert EVERYTHING.aggregates(frame) is frame


def test_a_pack_of_a_limited_role_has_nothing_of_other_streams(
    signed: Signed, tmp_path: Path
) -> None:
    query = Query(since=NOON - timedelta(days=1), until=NOON + timedelta(days=9))
    for only, events in ((None, 700), ({"okta"}, 700), ({"github"}, 0)):
        out = tmp_path / "pack.zip"
        made = evidence.pack(signed.lake, export.asked(query), out, NOON, only=only)
        with zipfile.ZipFile(out) as pack:
            texts = {name: pack.read(name) for name in pack.namelist()}
        assert made["events"] == events
        theirs = {"query.json", "README.md", "__main__.py", "proofs.py", "keys.txt"}
        about = b"".join(text for name, text in texts.items() if name not in theirs)
        assert (b"okta" in about) is bool(events)
        assert (b'"integrations": ["github"]' in texts["query.json"]) is (only == {"github"})


def test_a_certificate_of_a_limited_role_names_no_other_stream(root: Path, signed: Signed) -> None:
    lake = two_integrations.Lake(str(root), None, signed.lake.integrity)
    span = Span(since=EVER.since, until=NOW)
    assert "zebra" in coverage_certificate.make(lake, span, NOW).decode()
    text = coverage_certificate.make(lake, span, NOW, {"okta"})
    assert marks([text]) == set()
    assert b"of 1 streams" in text


_READERS = {
    *("scan_delta", "scan_parquet", "read_delta", "read_parquet", "DeltaTable", "QueryBuilder"),
    *("pinned", "newest_version", "open_table", "open_at", "borrowed", "existing", "store_errors"),
}
_OF_THE_LAKE = {
    "pipelines.lake.tables": {"STORE_ERRORS", "Lake", "StreamKey", "at_once", "configured"},
    "pipelines.lake.versions": {"Head"},
    "pipelines.lake.commits": {"Table", "append"},
    "pipelines.lake.findings": {"EXCEPTIONS", "TRIAGE"},
    "pipelines.lake.rollup": set(vars(rollup)),
}
"""Module -> its names that read no table; other modules of the lake are pure, or not imported."""
_PURE = {f"pipelines.lake.{name}" for name in ("row_codes", "spans", "stream_state", "text_index")}


def test_every_table_is_opened_at_one_place() -> None:
    folder = Path(counts.__file__).parent
    found = {
        f"{path.relative_to(folder)}: {use}"
        for path in folder.rglob("*.py")
        if path.name != "sight.py"
        for use in _uses(ast.parse(path.read_text()))
    }
    assert found == set()


def _uses(tree: ast.Module) -> Iterator[str]:
    """Yield the names by which a module of the dashboard could read a table itself."""
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if _reads(each.name))
        if isinstance(node, ast.ImportFrom) and node.module:
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                if node.module == "pipelines.lake":
                    aliases[each.asname or each.name] = whole
                elif node.module.startswith("pipelines.lake.") and node.module not in _PURE:
                    if each.name not in _OF_THE_LAKE.get(node.module, ()):
                        yield whole
                elif _reads(whole):
                    yield whole
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if node.attr in _READERS:
                yield node.attr
            module = aliases.get(node.value.id) if isinstance(node.value, ast.Name) else None
            if module and module not in _PURE and node.attr not in _OF_THE_LAKE.get(module, ()):
                yield f"{module}.{node.attr}"


def _reads(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] == "deltalake" or name.startswith(
        "pipelines.lake.identity"
    )


def test_the_search_for_other_ways_to_a_table_finds_them() -> None:
    for source, use in (
        ("import polars as pl\npl.scan_delta('x')", "scan_delta"),
        ("from pipelines.lake import versions as v\nv.pinned(1, 2)", "pinned"),
        ("from pipelines.lake import tables\ntables.scan(1, 2)", "pipelines.lake.tables.scan"),
        ("from pipelines.lake.tables import scan", "pipelines.lake.tables.scan"),
        ("from pipelines.lake import events\nevents.behind(1)", "pipelines.lake.events.behind"),
        ("import deltalake", "deltalake"),
    ):
        assert use in set(_uses(ast.parse(source)))


@pytest.mark.browser
def test_a_browser_of_a_limited_role_receives_no_value_of_another_integration(
    browser: Browser, root: Path, tmp_path: Path
) -> None:
    port, received = free_port(), []
    with identity.providing() as provider:
        secrets = tmp_path / ".streamlit" / "secrets.toml"
        secrets.parent.mkdir()
        text = SECRETS.format(
            port=port,
            client=identity.CLIENT,
            secret=identity.SECRET,
            metadata=provider.metadata_url,
        )
        secrets.write_text(f'{text}\n[auditlake.roles]\nsecurity = ["okta"]\n')
        with serving(root, tmp_path, port) as address:
            context = browser.new_context(base_url=address)
            page = context.new_page()
            page.set_default_timeout(120_000)

            def hear(socket: Any) -> None:
                socket.on("framereceived", lambda frame: received.append(_bytes(frame)))

            page.on("websocket", hear)
            page.goto("/?range=30d&by=integration")
            sign_in(page, "Ada")
            expect(page.get_by_role("button", name="Export")).to_be_visible()
            settled(page)
            for heading in ("findings", "sources", "integrity", "access"):
                page.goto(f"/{heading}")
                expect(page.get_by_role("heading", name=heading.title())).to_be_visible()
                settled(page)
            context.close()
    assert sum(map(len, received)) > 10_000
    assert b"okta" in b"".join(received)
    assert marks(received) == set()


def _bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame
