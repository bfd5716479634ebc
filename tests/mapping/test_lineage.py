"""docs/columns.md and `normalise --explain` match the code."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines import registry
from pipelines.cli import events, main
from pipelines.mapping import lineage
from pipelines.schemas import EVENTS
from tests.extraction.test_renormalise import made

PAGE = Path(__file__).parents[2] / "docs" / "columns.md"
REMEDY = "run: auditlake columns > docs/columns.md"


@pytest.mark.parametrize("kind", sorted(registry.kinds()))
def test_the_page_is_up_to_date_for_every_vendor(kind):
    assert lineage.section(registry.kind(kind)) in PAGE.read_text(), REMEDY


def test_the_page_lists_every_column_with_a_meaning():
    head, *_ = lineage.page([]).partition("## ")
    assert PAGE.read_text().startswith(head), REMEDY
    listed = [line.split("|")[1:5] for line in head.splitlines() if line.startswith("| ")]
    assert [column.strip() for column, *_ in listed[1:]] == list(EVENTS)
    assert all(cell.strip() for row in listed for cell in row)


def explained(kind, stream, *records):
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    done = CliRunner().invoke(main.main, ["normalise", kind, stream, "--explain"], input=lines)
    assert done.exit_code == 0
    return done.stdout


def test_explain_names_the_paths_that_have_a_value():
    record = {"uuid": "1", "published": "2026-01-01T00:00:00Z", "eventType": "user.session.start"}
    said = explained("okta", "system_log", {**record, "actor": {"alternateId": "Ada@acme.io"}})
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    assert lines["actor_email"].split() == [
        "actor_email", '"ada@acme.io"', "<-", "actor.alternateId"
    ]  # fmt: skip
    assert lines["actor_name"].endswith("<-  actor.alternateId")
    assert lines["activity_type"].endswith("<-  okta.csv by action")
    assert "city" not in lines


def test_explain_reads_the_event_inside_its_list(lake):
    history = made({"action": "list[].verb", "actor_id": "who"}, explode="list")(lake)
    stream, integration = history.stream, history.source.integration
    record = b'{"id":"1","time":"2026-03-01T00:00:00Z","list":[{"verb":"a"},{"verb":"b"}]}'
    raw = events._raw(stream, [(0, record)])
    first, second = lineage.explain(integration, stream, raw)
    found = [o for o in second if o.column == "action"]
    assert [(o.value, o.sources) for o in found] == [("b", ("list[].verb",))]
    assert [o.value for o in first if o.column == "action"] == ["a"]


def test_explain_survives_lines_that_are_not_records():
    assert "API Activity" in explained("okta", "system_log", 17, {})
