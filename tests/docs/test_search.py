"""Every example of docs/search.md finds events, or is refused with the answer shown there."""

import re
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.schemas import EVENTS
from pipelines.search import compiler, fields, parser, tree
from pipelines.search.terms import SearchError
from tests.dashboard.small_lakes import blank

PAGE = (Path(__file__).parents[2] / "docs/search.md").read_text()
GOOD, BAD = PAGE.split("## Refused searches")
CELLS = re.compile(r"^\| (`.*`) \| (.*) \|$", re.MULTILINE)
EXAMPLES = [example for cell, _ in CELLS.findall(GOOD) for example in re.findall("`(.*?)`", cell)]
REFUSED = [(cell.strip("`"), answer) for cell, answer in CELLS.findall(BAD)]
NOON = datetime(2026, 11, 17, 12, tzinfo=UTC)
ROWS = [
    {
        "integration": "okta",
        "actor_email": "ada@acme.example",
        "outcome": "failure",
        "source_ip": "203.0.113.67",
        "country": "DE",
        "message": "user.session.start of ada and an access key download",
        "session_id": "https://acme.example/x?id=7",
    },
    {"actor_name": "Grace Hopper", "outcome": "success", "source_ip": "2001:db8::7"},
]
FRAME = pl.DataFrame(
    [blank() | {"time": NOON, "ingested_at": NOON} | row for row in ROWS], schema=EVENTS
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_finds_some_events_and_not_all(example):
    found = FRAME.filter(compiler.expressions(parser.parse(example)))
    everything = any(name in example for name in fields.TIMES) or " OR " in example
    assert 0 < found.height < 2 + ("grace" in example or everything)


@pytest.mark.parametrize(("example", "answer"), REFUSED)
def test_an_example_is_refused_with_its_answer(example, answer):
    with pytest.raises(SearchError) as caught:
        parser.parse(example)
    assert caught.value.reason == answer


def test_the_page_shows_every_form_and_limit():
    assert (len(EXAMPLES), len(REFUSED)) == (30, 13)
    for name in fields.ALIASES:
        assert f"`{name}`" in GOOD
    limits = (
        f"{parser.LONGEST:,} characters, {tree.MOST_WORDS:,} words and {tree.DEEPEST} nested levels"
    )
    assert limits in BAD
