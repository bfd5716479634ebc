"""No page shows a character that a reader cannot see, whatever an event contains."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from google.protobuf.json_format import MessageToDict
from streamlit.testing.v1 import AppTest

from dashboard import findings, silences
from dashboard.access_log import Seen
from dashboard.lake import Lake
from pipelines import visible
from pipelines.schemas import EVENTS
from tests.dashboard import found, small_lakes
from tests.dashboard.shown import App, newest_event

DISGUISED = "\u0430d\u200bmin\u202e\x1b[2J\u2066@acme.example\U000e0041"
MARKED = "[U+0430]d[U+200B]min[U+202E][U+001B][2J[U+2066]@acme.example[U+E0041]"
NOT_SHOWN = {"id", "key", "elementId", "formId", "data", "queryString", "urlPathname"}


def disguised(number: int, time: datetime) -> small_lakes.Row:
    names = {"event_uid", "integration", "kind", "stream", "event_id", "outcome", "country"}
    theirs = {
        name: DISGUISED
        for name, dtype in EVENTS.items()
        if dtype == pl.String and name not in names
    }
    targets = [{"id": DISGUISED, "name": f"{DISGUISED}{n}", "type": "t"} for n in range(3)]
    return small_lakes.event(number, time, random.Random(number)) | theirs | {"targets": targets}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("disguised")
    end = datetime.now(UTC)
    rows = small_lakes.events(60, end=end - timedelta(hours=1))
    theirs = [disguised(100 + n, end - timedelta(minutes=10 * n + 1)) for n in range(20)]
    small_lakes.append(folder, [*rows, *theirs])
    lake = Lake(str(folder), {})
    lake.access.record(end, Seen(who=DISGUISED, what="looked up", about=f"actor:{DISGUISED}"))
    lake.views.add(end, who=DISGUISED, name=DISGUISED, address="q=x")
    _find(folder, end)
    signed = folder / "integrity" / "okta" / "system_log"
    signed.mkdir(parents=True)
    found = {"kind": DISGUISED, "detail": DISGUISED}
    verdict = {"table": f"raw/{DISGUISED}", "ok": False, "at": end.isoformat(), "size": 7}
    (folder / "integrity" / "verification.json").write_text(
        json.dumps([verdict | {"findings": [found]}])
    )
    return folder


def _find(folder: Path, end: datetime) -> None:
    """Write a finding with deceptive text in every column that others write, and decide on it."""
    row = found.events(folder)[0]
    columns = ("title", "author", "url", "license", "entity", "message", "rule_id", "source_ip")
    theirs: dict[str, Any] = dict.fromkeys(columns, DISGUISED)
    theirs |= {"matched": [{"field": DISGUISED, "value": DISGUISED}], "tags": [DISGUISED]}
    (made,) = found.write(folder, [found.finding([row], 0, **theirs, finding_uid="f")])
    lake = Lake(str(folder), {})
    decided = findings.decision([made["finding_uid"]], DISGUISED, "assigned", note=DISGUISED)
    lake.triage.add_all(end, decided)
    excepted = silences.made(DISGUISED, {"entity": DISGUISED}, end + timedelta(days=9))
    lake.exceptions.add(end, **silences.row(excepted, DISGUISED, DISGUISED, DISGUISED))


def texts(node: Any) -> Iterator[str]:
    """Yield every text of a page: labels, values, cells, and the data of charts."""
    proto = getattr(node, "proto", None)
    # A text that is edited has to be exact; its chip, and a line below the search box, mark it.
    if hasattr(proto, "DESCRIPTOR") and proto.DESCRIPTOR.name != "TextInput":
        yield from _strings(MessageToDict(proto))
        yield from _cells(proto)
    for child in getattr(node, "children", {}).values():
        yield from texts(child)


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for name, part in value.items():
                if name not in NOT_SHOWN:
                    yield from _strings(part)
        case list():
            for part in value:
                yield from _strings(part)


def _cells(proto: Any) -> Iterator[str]:
    tables = [getattr(proto, name, None) for name in ("arrow_data", "data")]
    tables += [one.data for one in getattr(proto, "datasets", ())]
    for table in tables:
        if data := getattr(table, "data", None):
            yield from _strings(pa.ipc.open_stream(data).read_all().to_pylist())


@pytest.fixture
def page(app: App, root: Path) -> Callable[..., AppTest]:
    def show(screen: str, **address: str | list[str]) -> AppTest:
        page = app(root)
        if screen != "explore":
            code = f"from dashboard.screens import {screen}\n{screen}.show()"
            page = AppTest.from_string(code, default_timeout=120)
        for name, value in address.items():
            page.query_params[name] = value
        page.run()
        assert not page.exception
        return page

    return show


def assert_marked(page: AppTest) -> None:
    shown = list(texts(page._tree))
    assert any(MARKED in text for text in shown)
    assert [text for text in shown if visible.text(text, keep="\n\t") != text] == []


@pytest.mark.parametrize(
    "address",
    [
        {},
        {"by": "actor"},
        {"tab": "out", "f": [f"actor:{DISGUISED}"]},
        {"f": [f"target:{DISGUISED}", f"-action:{DISGUISED}!"]},
    ],
)
def test_explore_marks_deceptive_text(page: Callable[..., AppTest], address: Any) -> None:
    assert_marked(page("explore", **address))


@pytest.mark.parametrize("tab", ["Details", "Raw JSON", "Around this event"])
def test_the_details_of_an_event_mark_it(
    page: Callable[..., AppTest], root: Path, tab: str
) -> None:
    day, uid = newest_event(root)
    shown = page("explore", ev=f"{day}/{uid}")
    shown.session_state["tab"] = tab
    shown.run()
    assert_marked(shown)


def test_a_search_with_hidden_characters_is_spelled_out(page: Callable[..., AppTest]) -> None:
    shown = page("explore", q="ad\u200bmin")
    assert "Searched for: ad[U+200B]min" in [text.value for text in shown.text]


@pytest.mark.parametrize("screen", ["integrity", "access"])
def test_the_other_pages_mark_it(page: Callable[..., AppTest], screen: str) -> None:
    assert_marked(page(screen))


@pytest.mark.parametrize(
    "address", [{}, {"id": "f"}, {"show": "noise"}, {"show": "exceptions"}, {"rule": [DISGUISED]}]
)
def test_findings_mark_it(page: Callable[..., AppTest], address: Any) -> None:
    assert_marked(page("findings", **address))


def test_entities_mark_it(page: Callable[..., AppTest]) -> None:
    assert_marked(page("entities", kind="actor"))
    assert_marked(page("entities", kind="actor", v=DISGUISED))


def test_a_link_to_a_missing_event_marks_its_uid(page: Callable[..., AppTest]) -> None:
    shown = page("explore", ev=f"2026-01-01/okta:system_log:{DISGUISED}")
    assert f"okta:system_log:{MARKED}" in [text.value for text in shown.text]
    assert [text for text in texts(shown._tree) if "\u200b" in text] == []
