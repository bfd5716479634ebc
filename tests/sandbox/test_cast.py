"""The company's people, places and things."""

from __future__ import annotations

import ipaddress
from random import Random

from sandbox import cast
from sandbox.cast import DOMAIN, Account

PEOPLE = cast.people(Random(1))
RESERVED = [
    ipaddress.ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")
]


def everybody() -> list[Account]:
    return [*PEOPLE, *cast.service_accounts(), *cast.strangers()]


def test_nothing_of_the_company_can_be_real() -> None:
    places = [place for account in everybody() for place in account.places]
    for place in [*places, *cast.attackers_places()]:
        assert any(ipaddress.ip_address(place.ip) in network for network in RESERVED)
        assert 64496 <= place.as_number <= 64511
    assert DOMAIN.endswith(".example")
    assert all(account.email.endswith(f"@{DOMAIN}") for account in everybody() if account.email)


def test_names_addresses_and_homes_are_of_one_person_each() -> None:
    assert len({person.name for person in PEOPLE}) == len(PEOPLE)
    assert len({person.email for person in PEOPLE}) == len(PEOPLE)
    assert len({person.places[0].ip for person in PEOPLE}) == len(PEOPLE)
    assert all(person.email.isascii() for person in PEOPLE)


def test_another_seed_gives_the_same_names_to_other_jobs() -> None:
    others = cast.people(Random(2))
    assert {person.name for person in others} == {person.name for person in PEOPLE}
    assert [person.name for person in others] != [person.name for person in PEOPLE]
    assert [person.title for person in others] == [person.title for person in PEOPLE]
    again = cast.people(Random(1))
    assert [(p.name, p.places[0].ip) for p in again] == [(p.name, p.places[0].ip) for p in PEOPLE]


def test_attackers_come_from_a_country_without_employees() -> None:
    ours = {place.code for person in PEOPLE for place in person.places}
    assert {place.code for place in cast.attackers_places()} == {"PA"}
    assert "PA" not in ours


def test_administrators_are_few_and_strangers_have_no_account() -> None:
    assert sum(person.admin for person in PEOPLE) == 6
    assert not any(stranger.email for stranger in cast.strangers())


def test_every_kind_of_thing_exists_under_distinct_names() -> None:
    found = cast.things(PEOPLE)
    for sort, things in found.items():
        assert things
        assert {thing.sort for thing in things} == {sort}
        assert len({thing.name for thing in things}) == len(things)
