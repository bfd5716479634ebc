"""Which checkpoints of a former log the present one is compared with."""

from datetime import UTC, datetime

import pytest

from pipelines.integrity import operator_acts
from pipelines.integrity.verifier import restores
from pipelines.integrity.verifier.job import TableReport
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.integrity.verifier.proofs import Checkpoint
from tests.integrity.worlds import LOG, NOON

ROOT = bytes(32)
ROOT_TEXT = "A" * 43 + "="


def seen(origin, size):
    head = Checkpoint(origin=origin, size=size, root=ROOT, signer="x")
    return KnownCheckpoint(head=head, where=f"{origin} {size}", note=None)


def begun_again(former, kept, origin):
    return {
        "act": "restore",
        "table": LOG.table,
        "former": f"{former}\n900\n{ROOT_TEXT}\n",
        "kept": kept,
        "origin": origin,
    }


def compared(signed, acts, known):
    for act in acts:
        operator_acts.record(signed.lake, act, NOON)
    verdict = TableReport(table=LOG.table, at=datetime(2026, 3, 1, tzinfo=UTC))
    found = restores.report(signed.place, LOG.table, verdict, known)
    return [(each.head.origin, each.head.size) for each in found], verdict.notes


def test_of_a_log_that_began_again_twice_the_shared_entries_are_compared(signed):
    acts = [begun_again("a", 700, "b"), begun_again("b", 600, "c")]
    known = [seen("a", 600), seen("a", 601), seen("b", 599), seen("b", 700), seen("c", 9)]
    found, notes = compared(signed, acts, known)
    assert found == [("c", 600), ("c", 599), ("c", 9)]
    assert [note for note in notes if "former log" in note] == [
        "a 601 covers 601 entries of the former log; a restore has lost those from 600",
        "b 700 covers 700 entries of the former log; a restore has lost those from 600",
    ]


@pytest.mark.parametrize(
    "act",
    [
        {**begun_again("a", 700, "b"), "act": "other"},
        {**begun_again("a", 700, "b"), "table": "raw/okta/other"},
        begun_again("a", "700", "b"),
        begun_again("a", True, "b"),
        begun_again("a", 700, 7),
        {**begun_again("a", 700, "b"), "former": "no checkpoint"},
        {**begun_again("a", 700, "b"), "former": None},
    ],
)
def test_an_act_that_names_no_former_log_of_this_table_excuses_none(signed, act):
    found, _ = compared(signed, [act], [seen("a", 600), seen("a", 800)])
    assert found == [("a", 600), ("a", 800)]


def test_a_place_that_cannot_be_read_is_still_reported(signed):
    away = Unavailable(where="anchor", reason="no route")
    verdict = TableReport(table=LOG.table, at=NOON)
    assert restores.report(signed.place, LOG.table, verdict, [away]) == [away]
