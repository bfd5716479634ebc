"""The fields to search by, over columns that vendors fill in differently."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.schemas import EVENTS
from pipelines.search import fields
from pipelines.search.people import PERSON
from tests.dashboard.small_lakes import blank


def value(name: str, **columns: Any) -> Any:
    row = pl.DataFrame([blank() | columns], schema=EVENTS)
    return row.select(fields.value(name)).item()


@pytest.mark.parametrize(
    ("columns", "actor"),
    [
        ({"actor_email": "a@x.example", "actor_name": "Ada", "actor_id": "1"}, "a@x.example"),
        ({"actor_email": "", "actor_name": "Ada", "actor_id": "1"}, "Ada"),
        ({"actor_email": None, "actor_name": "", "actor_id": "1"}, "1"),
        ({"actor_email": "", "actor_name": "", "actor_id": ""}, None),
        ({}, None),
    ],
)
def test_an_actor_is_the_best_name_that_is_not_empty(
    columns: dict[str, Any], actor: str | None
) -> None:
    assert value("actor", **columns) == actor


def test_numbers_are_compared_as_text_and_empty_text_is_absent() -> None:
    assert value("class_uid", class_uid=3002) == "3002"
    assert value("country", country="") is None
    assert value("country", country=" ") == " "


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("user", "actor"),
        ("IP", "source_ip"),
        ("Actor_Email", "actor_email"),
        ("integration", "integration"),
        ("source", "integration"),
    ],
)
def test_a_field_is_found_by_alias_and_in_any_case(name: str, field: str) -> None:
    assert fields.resolve(name) == field


@pytest.mark.parametrize(
    "name", ["", "acter", "time", "date", "targets", "__class__", "actor ", "actor_email) or (1"]
)
def test_other_names_are_no_fields(name: str) -> None:
    assert fields.resolve(name) is None


def test_every_field_is_read_from_columns_of_events() -> None:
    for name in fields.NAMES:
        assert set(fields.columns(name)) <= EVENTS.keys() | {PERSON}
        assert value(name) is None
    assert set(fields.ALIASES.values()) <= set(fields.NAMES)


@pytest.mark.parametrize(
    ("name", "known"),
    [("acter", "actor"), ("user-agent", "user_agent"), ("src_ip", "source_ip"), ("zzz", None)],
)
def test_the_nearest_field_is_a_similar_one(name: str, known: str | None) -> None:
    assert fields.nearest(name) == known
