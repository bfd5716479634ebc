"""Which account belongs to which person: never two persons by one account, in any order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.schemas import EVENTS, IDENTITIES
from pipelines.search import fields, parser, people
from pipelines.search.people import NOBODY
from tests.dashboard.small_lakes import blank

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA, BOB = "ada@acme.example", "bob@acme.example"


def known(
    value: str,
    person: str,
    first: int = 0,
    last: int = 9,
    *,
    integration: str = "okta",
    identifier: str = "user",
) -> dict[str, object]:
    span = {"first_event": START + timedelta(days=first), "last_seen": START + timedelta(days=last)}
    keys = {"integration": integration, "identifier": identifier, "value": value, "person": person}
    return {**keys, **span}


def resolved(*rows: Mapping[str, object]) -> people.People:
    return people.people(pl.DataFrame(rows, schema=IDENTITIES))


def persons(known: people.People, value: str, integration: str = "okta") -> list[int]:
    """Return the days, counted from START, on which the account is a person's."""
    return [day for day in range(-3, 13) if actor(known, value, integration, day)]


def actor(known: people.People, value: str, integration: str, day: int) -> str | None:
    row = {
        "integration": integration,
        "actor_id": value,
        "date": (START + timedelta(days=day)).date(),
    }
    frame = pl.DataFrame([blank() | row], schema=EVENTS).lazy()
    person: str | None = known.named(frame).collect()["person"].item()
    return person


def test_an_account_seen_with_one_address_belongs_to_it_at_any_time() -> None:
    assert persons(resolved(known("1", ADA)), "1") == list(range(-3, 13))


def test_an_equal_account_of_another_integration_is_nobody_known() -> None:
    assert persons(resolved(known("1", ADA)), "1", "other") == []


def test_one_person_may_have_an_account_of_each_sort_in_each_integration() -> None:
    found = resolved(
        known("1", ADA, integration="o365", identifier="object"),
        known("2", ADA, integration="o365", identifier="passport"),
        known("3", ADA),
    )
    assert {actor(found, *key, 0) for key in (("1", "o365"), ("2", "o365"), ("3", "okta"))} == {ADA}


@pytest.mark.parametrize("second", [("2", ADA), ("1", BOB)], ids=["re-used", "renamed"])
def test_after_a_second_link_each_holds_on_its_own_days_only(second: tuple[str, str]) -> None:
    found = resolved(known("1", ADA, 0, 3), known(*second, 5, 8))
    assert {actor(found, "1", "okta", day) for day in range(4)} == {ADA}
    assert {actor(found, *(second[0], "okta"), day) for day in range(5, 9)} == {second[1]}
    assert {actor(found, "1", "okta", day) for day in (-1, 4, 9)} == {None}


@pytest.mark.parametrize("second", [("2", ADA), ("1", BOB)], ids=["re-used", "renamed"])
def test_days_with_two_links_link_nobody(second: tuple[str, str]) -> None:
    found = resolved(known("1", ADA, 0, 5), known(*second, 3, 8))
    assert {actor(found, "1", "okta", day) for day in range(3, 6)} == {None}
    assert {actor(found, "1", "okta", day) for day in range(3)} == {ADA}


def test_a_user_who_takes_the_address_of_another_never_becomes_one_with_him() -> None:
    found = resolved(
        known("ada", ADA, 0, 9), known("mallory", "mallory@acme.example", 0, 9),
        known("mallory", ADA, 4, 5),
    )  # fmt: skip
    assert {actor(found, "mallory", "okta", day) for day in range(12)} == {
        "mallory@acme.example", None
    }  # fmt: skip
    assert ADA not in {actor(found, "mallory", "okta", day) for day in range(-2, 12)}
    assert {actor(found, "ada", "okta", day) for day in range(10)} == {ADA, None}


def test_an_address_in_the_record_counts_more_than_the_account() -> None:
    row = {"integration": "okta", "actor_id": "1", "actor_email": BOB, "date": START.date()}
    frame = pl.DataFrame([blank() | row], schema=EVENTS)
    named = resolved(known("1", ADA)).named(frame.lazy()).collect()
    assert named["person"].to_list() == [None]
    assert named.select(fields.value("actor")).item() == BOB


def test_the_person_is_the_actor_where_the_record_has_no_address() -> None:
    row = {"integration": "okta", "actor_id": "1", "actor_name": "ada", "date": START.date()}
    frames = [pl.DataFrame([blank() | row | {"actor_email": text}], EVENTS) for text in ("", None)]
    for frame in frames:
        named = resolved(known("1", ADA)).named(frame.lazy()).collect()
        assert named.select(fields.value("actor")).item() == ADA
        assert NOBODY.named(frame.lazy()).collect().select(fields.value("actor")).item() == "ada"
        assert frame.select(fields.value("actor")).item() == "ada"


SHARED = [
    known("1", ADA),
    known("1", BOB, integration="entra"),
    known("2", "eve@acme.example", 0, 3),
    known("2", "eva@acme.example", 5, 8),
    known("00uMax", "max@acme.example"),
]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("actor:1", 'actor:(1, "ada@acme.example", "bob@acme.example")'),
        ("user:00umax", 'actor:(00umax, "max@acme.example")'),
        ("-actor=00uMax x", '-actor=(00uMax, "max@acme.example") x'),
        ("a OR (actor:(00uMax, b) c)", 'a OR (actor:(00uMax, b, "max@acme.example") c)'),
        ("actor=00umax", "actor=00umax"),
        ("actor:2", "actor:2"),
        ('actor:""', 'actor:""'),
        ("actor:*", "actor:*"),
        ("actor_id:1", "actor_id:1"),
        ("target:1", "target:1"),
        ("1", "1"),
    ],
)
def test_an_account_in_a_search_stands_for_the_address_of_its_person(text: str, meant: str) -> None:
    assert resolved(*SHARED).resolved(parser.parse(text)) == parser.parse(meant)
    assert NOBODY.resolved(parser.parse(text)) == parser.parse(text)


ROWS = st.builds(
    lambda value, person, integration, identifier, first, days: known(
        value, person, first, first + days, integration=integration, identifier=identifier
    ),
    st.sampled_from("123"),
    st.sampled_from([ADA, BOB, "eve@acme.example"]),
    st.sampled_from(["okta", "entra"]),
    st.sampled_from(["user", "object"]),
    st.integers(0, 9),
    st.integers(0, 5),
)
KEYS = ("integration", "identifier", "value", "person")


def naive(rows: list[dict[str, object]], integration: str, value: str, day: date) -> str | None:
    """Return the person of an account on a day, by the rules as they are documented."""

    def covers(row: Mapping[str, object]) -> bool:
        first, last = row["first_event"], row["last_seen"]
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        return first.date() <= day <= last.date()

    found = set()
    for row in rows:
        if (row["integration"], row["value"]) != (integration, value):
            continue
        rivals = [
            one for one in rows
            if one is not row
            and (one["integration"], one["identifier"]) == (integration, row["identifier"])
            and (one["value"] == value or one["person"] == row["person"])
        ]  # fmt: skip
        if not rivals:
            found.add((True, row["person"]))
        elif covers(row) and not any(map(covers, rivals)):
            found.add((False, row["person"]))
    # An account that is never disputed comes first; the same id of two sorts may be two persons.
    sure = {person for certain, person in found if certain}
    daily = {person for certain, person in found if not certain}
    for candidates in (sure, daily):
        if len(candidates) == 1:
            return str(candidates.pop())
    return None


@given(st.lists(ROWS, max_size=8, unique_by=lambda row: tuple(row[key] for key in KEYS)), st.data())
def test_any_order_of_the_rows_resolves_to_the_documented_persons(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    found = resolved(*data.draw(st.permutations(rows)))
    for integration in ("okta", "entra"):
        for value in "123":
            for day in range(-1, 16):
                at = (START + timedelta(days=day)).date()
                assert actor(found, value, integration, day) == naive(rows, integration, value, at)
