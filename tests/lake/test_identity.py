"""Only what a vendor asserts links an account to a person, in whatever order it arrives."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import registry
from pipelines.lake import identity
from pipelines.schemas import EVENTS, IDENTITIES
from tests.dashboard import small_lakes

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
ADA = "ada@acme.example"
IDS = {
    "atlassian": "712020:0f3c9a52-5a1f-4c0e-9a57-0d6f2e6f7a11",
    "cloudflare": "042fb38530054d63921f9ca81a33d5d2",
    "entra_id": "26be570a-1111-5555-b4e2-a37c6808512d",
    "google_workspace": "100606748236723241722",
    "jumpcloud": "6d0d62b910f307772908619f",
    "office_365": "1003200126677019",
    "okta": "00u1abvz4pYqdM8ms4x6",
}


def event(kind: str = "okta", hours: int = 0, **columns: object) -> small_lakes.Row:
    row = small_lakes.event(0, NOON + timedelta(hours=hours), random.Random(1))
    ours = {"kind": kind, "integration": f"our_{kind}", "outcome": "success", "actor_email": ADA}
    return row | ours | {"actor_id": IDS.get(kind, "7")} | columns


def derived(*rows: small_lakes.Row) -> list[tuple[object, ...]]:
    frame = pl.DataFrame(rows, schema=EVENTS).lazy()
    found = identity.identities([identity.pairs(frame)])
    assert found.schema == pl.Schema(IDENTITIES)
    return found.rows()


@pytest.mark.parametrize("kind", IDS)
def test_a_record_with_id_and_address_links_them(kind: str) -> None:
    ((integration, _, value, person, first, last),) = derived(event(kind, 0), event(kind, 5))
    assert (integration, value, person) == (f"our_{kind}", IDS[kind], ADA)
    assert (first, last) == (NOON, NOON + timedelta(hours=5))


@pytest.mark.parametrize(
    "columns",
    [
        {"actor_email": None},
        {"actor_email": ""},
        {"actor_email": "ada"},
        {"actor_id": None},
        {"actor_id": ""},
        {"actor_id": ADA},
        {"actor_id": "0oa1abvz4pYqdM8ms4x6"},
        {"actor_type": "application"},
        {"actor_type": "system"},
        {"actor_type": None},
        {"activity_type": "Authentication", "outcome": "failure"},
        {"kind": "entra_id", "actor_id": "00000000-0000-0000-0000-000000000000"},
        {"kind": "google_workspace", "actor_id": "12.apps.googleusercontent.com"},
        {"kind": "opsgenie"},
    ],
)
def test_a_record_that_asserts_no_account_of_a_person_links_nobody(columns: dict[str, str]) -> None:
    assert derived(event(**columns)) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"actor_type": "api_key"},
        {"activity_type": "Account Change", "outcome": "failure"},
        {"activity_type": None, "outcome": "failure"},
        {"activity_type": "Authentication", "outcome": None},
    ],
)
def test_a_record_of_an_authenticated_user_links_the_account(columns: dict[str, str]) -> None:
    assert len(derived(event(**columns))) == 1


def test_names_never_link() -> None:
    alike = {"actor_id": None, "actor_email": None, "actor_name": ADA}
    assert len(derived(event(), event(**alike), event("jumpcloud", **alike))) == 1


def test_a_microsoft_account_has_an_id_of_each_sort() -> None:
    both = (event("office_365"), event("office_365", actor_id=IDS["entra_id"]))
    assert {row[1] for row in derived(*both)} == {"object", "passport"}


def test_every_service_has_its_pairs_or_the_reason_for_none() -> None:
    with Path(identity.__file__).with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == set(registry.kinds())
    assert all(len(row["reason"]) > 40 for row in rows)
    assert {row["kind"] for row in rows if not row["pattern"]} == {"opsgenie"}


DRAWN = st.builds(
    event,
    st.sampled_from(["okta", "jumpcloud"]),
    st.integers(0, 200),
    actor_id=st.sampled_from(["00uada", "00ubob", IDS["jumpcloud"], None]),
    actor_email=st.sampled_from([ADA, "bob@acme.example", None]),
    outcome=st.sampled_from(["success", "failure", None]),
)


@given(st.lists(DRAWN, max_size=12), st.data())
def test_any_order_in_any_number_of_files_gives_the_same_rows(
    rows: list[small_lakes.Row], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    parts = [pl.DataFrame(part, schema=EVENTS) for part in (shuffled[:cut], shuffled[cut:])]
    found = identity.identities([identity.pairs(part.lazy()) for part in parts])
    assert found.rows() == derived(*rows)
