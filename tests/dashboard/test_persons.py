"""A person has one number of events on every surface."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from dashboard import entities, queries, state, times
from dashboard.entities import Entity
from dashboard.lake import Lake, Snapshot
from dashboard.queries import Filter, Query
from dashboard.screens.entities import all_events
from pipelines.clock import utc_now
from pipelines.lake import identity_table, maintenance, tables
from pipelines.mapping import export
from pipelines.mapping.export import Wanted
from pipelines.search.people import People
from tests.cli import command
from tests.tiers import FULL

TOMORROW = timedelta(days=1)


@pytest.fixture(scope="module")
def root(live_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sandbox's lake of all vendors, without any derived table."""
    root = tmp_path_factory.mktemp("persons") / "lake"
    shutil.copytree(live_lake, root)
    shutil.rmtree(root / "identities")
    return root


@pytest.fixture(scope="module", params=["counted one by one", "rolled up"])
def snapshot(request: pytest.FixtureRequest, root: Path) -> Iterator[Snapshot]:
    lake = tables.Lake(str(root))
    if request.param == "rolled up":
        list(maintenance.maintain(lake, [], (utc_now() + TOMORROW).date()))
    identity_table.derive(lake)
    found = Lake(str(root), {}).look()
    assert found
    yield found


def everything(snapshot: Snapshot) -> Query:
    first, last = snapshot.events.select(
        first=pl.col("time").min(), last=pl.col("time").max()
    ).collect().row(0)  # fmt: skip
    return Query(since=first, until=last + timedelta(seconds=1))


def total(snapshot: Snapshot, query: Query) -> int:
    return sum(n for _, n in snapshot.ask(queries.days, query))


def test_every_surface_counts_the_same_events_of_every_person(
    snapshot: Snapshot, root: Path
) -> None:
    query = everything(snapshot)
    facets = dict(snapshot.ask(queries.values, query, "actor", 10_000).iter_rows())
    persons = sorted(value for value in facets if "@" in value)
    assert len(persons) > 50
    assert snapshot.ask(queries.summary, query).actors == len(facets.keys() - {""})
    people = identity_table.read(tables.Lake(str(root)))
    for person in persons if FULL else persons[::4]:
        profile = snapshot.ask(entities.profile, Entity(kind="actor", value=person))
        wanted = (Filter(field="actor", value=person),)
        link = all_events(Entity(kind="actor", value=person), profile, utc_now())
        around = queries.nearest(
            snapshot.events, replace(query, filters=wanted), query.until, most=10_000
        )
        counts = {
            "facet": facets[person],
            "entities": profile.events,
            "filter": total(snapshot, replace(query, filters=wanted)),
            "all its events": total(snapshot, link.query(utc_now())),
            "around": around.height,
            "search": total(snapshot, replace(query, text=f'actor:"{person}"')),
            "export": exported(root, people, f'user="{person}"'),
        }
        assert len({*counts.values()}) == 1, (person, counts)


def exported(root: Path, people: People, search: str) -> int:
    events = pl.scan_delta(str(root / "events"))
    found = export.matching(events, Wanted(search=search), people).select(pl.len())
    count: int = found.collect().item()
    return count


def test_an_account_of_a_person_finds_the_events_of_the_person_everywhere(
    snapshot: Snapshot, root: Path
) -> None:
    query, people = everything(snapshot), identity_table.read(tables.Lake(str(root)))
    facets = dict(snapshot.ask(queries.values, query, "actor", 10_000).iter_rows())
    rows = pl.read_delta(str(root / "identities"))
    sole = pl.len().over("value") == 1, pl.len().over(_ADDRESS) == 1
    accounts = rows.filter(*sole).select("value", "person").rows()
    assert len(accounts) > 50
    for account, person in accounts[::15]:
        wanted = (Filter(field="actor", value=account),)
        others = (Filter(field="actor", value=account, negated=True),)
        filtered, entity = replace(query, filters=wanted), Entity(kind="actor", value=account)
        counts = {
            "filter": total(snapshot, filtered),
            "totals": snapshot.ask(queries.summary, filtered).events,
            "others": total(snapshot, query) - total(snapshot, replace(query, filters=others)),
            "entities": snapshot.ask(entities.profile, entity).events,
            "search": total(snapshot, replace(query, text=f'actor:"{account}"')),
            "outcome": snapshot.ask(queries.values, filtered, "outcome", 9)["n"].sum(),
            "nearest": snapshot.ask(queries.nearest, filtered, query.until, most=10_000).height,
            "export": exported(root, people, f"actor:{account}"),
        }
        assert {*counts.values()} == {facets[person]}, (account, person, counts)


_ADDRESS = ["integration", "identifier", "person"]


def test_events_that_show_only_an_account_are_among_them(snapshot: Snapshot) -> None:
    found = snapshot.events.filter(pl.col("person").is_not_null()).collect()
    assert found.height > 20
    assert found["actor_email"].null_count() == found.height
    person = found["person"][0]
    shown = snapshot.events.filter(pl.col("actor_email") == person).collect().height
    profile = snapshot.ask(entities.profile, Entity(kind="actor", value=person))
    assert profile.events > shown > 0


def test_the_command_line_prints_the_number_of_the_dashboard(
    snapshot: Snapshot, root: Path, tmp_path: Path
) -> None:
    person = snapshot.events.select("person").drop_nulls().first().collect().item()
    (tmp_path / "auditlake.toml").write_text(f'[lake]\nroot = "{root}"\n')
    done = command.run(tmp_path, "search", f'actor:"{person}"', "--limit", "1")
    events = snapshot.ask(entities.profile, Entity(kind="actor", value=person)).events
    assert done.stderr.startswith(f"1 of {events:,} events")
    assert person in done.stdout or "1 of 1 " in done.stderr
    rows = pl.read_delta(str(root / "identities"))
    alone = rows.filter(pl.len().over("value") == 1, pl.len().over(_ADDRESS) == 1)
    account, person = alone.select("value", "person").row(0)
    done = command.run(tmp_path, "search", f"actor:{account}", "--limit", "1")
    events = snapshot.ask(entities.profile, Entity(kind="actor", value=person)).events
    assert done.stderr.startswith(f"1 of {events:,} event")


def test_the_link_to_all_events_reaches_back_to_the_first() -> None:
    now = utc_now()
    profile = entities.Profile(
        events=1, failed=0, first=now - timedelta(days=1000), last=now, integrations=1,
        addresses=1, actors=1, countries="",
    )  # fmt: skip
    view = all_events(Entity(kind="actor", value="ada@acme.example"), profile, now)
    assert view == state.from_params(state.params(view))
    assert times.bounds(view.range, now)[0] < now - timedelta(days=1000)
