"""One person across services that each record different identifiers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import polars as pl

from dashboard import entities
from dashboard.entities import Entity
from pipelines.lake import identity
from pipelines.schemas import EVENTS
from pipelines.search import people
from tests.dashboard import small_lakes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
ADA = Entity(kind="actor", value="ada@acme.example")

KINDS = {"okta": "okta", "entra": "entra_id", "atlassian": "atlassian"}
GUID = "9f3c9a52-5a1f-4c0e-9a57-0d6f2e6f7a11"


def row(number: int, **columns: object) -> small_lakes.Row:
    event = small_lakes.event(number, NOW - timedelta(hours=number), random.Random(number))
    nobody = {"actor_email": None, "actor_name": None, "actor_id": None}
    kind = KINDS.get(str(columns["integration"]))
    return event | {"activity_type": "Entity Management"} | nobody | {"kind": kind} | columns


ROWS = [
    row(0, integration="okta", actor_email="ada@acme.example", actor_id="00u1", actor_name="Ada L"),
    row(1, integration="okta", actor_id="00u1"),
    row(2, integration="atlassian", actor_id="00u1", actor_name="Somebody else"),
    row(3, integration="entra", actor_email="ada@acme.example", actor_id=GUID, outcome="failure"),
    row(4, integration="entra", actor_id=GUID, source_ip="198.51.100.7"),
    row(5, integration="entra", actor_name="Grace", target_name="ada@acme.example"),
]


def named(rows: list[small_lakes.Row]) -> pl.LazyFrame:
    """Return the events with the persons that they themselves assert."""
    dated = [one | {"date": one["time"].date()} for one in rows]
    table = pl.DataFrame(dated, schema=EVENTS).lazy()
    return people.people(identity.identities([identity.pairs(table)])).named(table)


TABLE = named(ROWS)


def test_a_person_is_an_address_and_its_accounts() -> None:
    profile = entities.profile(TABLE, ADA)
    assert (profile.events, profile.failed, profile.integrations) == (4, 1, 2)
    assert (profile.first, profile.last) == (NOW - timedelta(hours=4), NOW)


def test_an_equal_account_id_of_another_service_is_another_account() -> None:
    found = entities.of(TABLE, ADA).collect()
    assert "atlassian" not in set(found["integration"])


def test_a_person_is_suggested_once_however_many_names_the_accounts_have() -> None:
    found = entities.suggestions(TABLE, "actor", "")
    assert found[0] == ADA.value
    assert not {"00u1", "Ada L"} & {*found}


def test_a_week_has_every_hour_of_the_given_zone() -> None:
    hours = entities.hours(TABLE, ADA, "Asia/Tokyo")
    assert hours.height == 7 * 24
    assert hours["n"].sum() == 4
    at_nine = hours.filter(pl.col("weekday") == 1, pl.col("hour") == 21)
    assert at_nine["n"].item() == 1


def test_related_values_are_counted_with_their_failures() -> None:
    rows = entities.related(TABLE, ADA, "source_ip")
    assert "198.51.100.7" in rows["value"].to_list()
    assert (rows["n"].sum(), rows["failed"].sum()) == (4, 1)
    names = entities.names(TABLE, ADA)
    accounts = {("entra", GUID), ("okta", "00u1")}
    assert set(names.select("integration", "account").iter_rows()) == accounts


def test_actions_on_a_person_are_listed_separately() -> None:
    done = entities.done_to(TABLE, ADA)
    assert done["actor"].to_list() == ["Grace"]
    recent = entities.recent(TABLE, ADA)
    assert recent.height == 4
    assert recent["time"].is_sorted(descending=True)


def test_an_event_belongs_to_each_of_its_targets() -> None:
    both = [{"id": "1", "name": name, "type": "t"} for name in ("Vault", "Box")]
    table = named([row(7, integration="okta", target_name="Vault", targets=both), ROWS[0]])
    for name in ("Vault", "Box"):
        assert entities.profile(table, Entity(kind="target", value=name)).events == 1
        assert name in entities.suggestions(table, "target", "")
    with_box = entities.related(table, Entity(kind="target", value="Box"), "target")
    assert with_box["value"].to_list() == ["Box", "Vault"]
    on_ada = [{"id": "2", "name": "Room", "type": "t"}, {"id": "3", "name": ADA.value, "type": "t"}]
    done = entities.done_to(named([row(8, integration="okta", targets=on_ada)]), ADA)
    assert done.height == 1


def test_part_of_a_name_is_found_in_any_case() -> None:
    assert entities.suggestions(TABLE, "actor", "ADA@") == ["ada@acme.example"]
    assert "Grace" in entities.suggestions(TABLE, "actor", "")


def test_a_bare_name_resolves_to_the_address_of_its_account() -> None:
    table = named([row(9, integration="okta", actor_id="00u1", actor_name="ada.l"), *ROWS])
    assert entities.known_as(table, Entity(kind="actor", value="ada.l")) == ("ada@acme.example",)
    assert entities.known_as(table, Entity(kind="actor", value="00u1")) == ("ada@acme.example",)
    assert entities.known_as(table, Entity(kind="actor", value="Grace")) == ()
    assert entities.known_as(table, ADA) == ()
