"""Two machines with the same key and credentials poll, sign and verify one lake in a store.

AUDITLAKE_FRESH_LAKES=20 is the long form.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import obstore
import polars as pl
import pytest

from pipelines import registry
from pipelines.extraction import rounds
from pipelines.integrity import files, note, operator_acts, reports, signer
from pipelines.integrity.verifier import diagnosis, proofs
from pipelines.integrity.verifier.job import WorkerPool
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import commits, object_store, raw, tables
from pipelines.lake.commits import Table
from pipelines.settings import IntegritySettings
from tests.lake.batches import LOG, NOON, batch

FRESH_LAKES = int(os.environ.get("AUDITLAKE_FRESH_LAKES", "1"))
KINDS = ("okta", "jumpcloud")


@pytest.fixture
def machines(store, tmp_path):
    """Two machines: one lake and key, and a state folder each."""
    key = note.new_key("auditlake").secret
    lake = store.lake()
    settings = (IntegritySettings(folder=tmp_path / name, keys=(key,)) for name in "ab")
    return [replace(lake, integrity=each) for each in settings]


def at_once(work, machines):
    with ThreadPoolExecutor(len(machines)) as pool:
        return list(pool.map(work, machines))


def verified(lake, *names):
    """Return the verdicts of the tables of a lake, and those of its acts."""
    where = reports.place(lake, lake.integrity)
    kinds = {kind: kind for kind in KINDS}
    with WorkerPool(1) as crew:
        return list(reports.verdicts(where, (*names, reports.ACTS), kinds, crew))


def history(lake, name):
    """Return the sizes of all checkpoints of a log, in the order in which they were signed."""
    folder = LogFiles(root=lake.uri(f"integrity/{name}"), options=lake.storage_options)
    notes = diagnosis.history(folder)
    return [proofs.checkpoint_in(each.partition("\n\n")[0] + "\n").size for each in notes]


@pytest.mark.parametrize("number", range(FRESH_LAKES))
def test_two_machines_that_start_at_once_lose_and_double_nothing(number, machines, vendors):
    sources = [registry.source(kind, vendors.settings()[kind]) for kind in KINDS]
    done = at_once(lambda lake: rounds.poll(lake, sources), machines)
    assert [(each.stream, each.error) for two in done for each in two if each.error] == []
    lake = machines[0]
    for source in sources:
        for stream in source.streams():
            ours = [e.sha256 for e in vendors.sandbox.ledger(source.name, stream.name)]
            found = tables.scan(lake, f"raw/{source.name}/{stream.name}")
            stored = found.select("raw_sha256").collect()["raw_sha256"] if found is not None else []
            assert Counter(stored) == Counter(ours)
    events = tables.existing(lake, "events").select(pl.len(), pl.col("event_uid").n_unique())
    assert len(set(events.collect().row(0))) == 1
    for machine in machines:
        verdicts = verified(machine, f"raw/{KINDS[0]}/system_log")
        assert [(each.table, each.ok) for each in verdicts] == [
            (each.table, True) for each in verdicts
        ]
    for name in ("acts", f"{KINDS[0]}/system_log"):
        assert history(lake, name) == sorted(set(history(lake, name)))


def test_acts_of_two_machines_are_all_recorded(machines):
    def record(lake):
        name = lake.integrity.folder.name
        for number in range(3):
            operator_acts.record(lake, {"by": name, "n": number}, NOON)

    at_once(record, machines)
    for lake in machines:
        acts = [(act["by"], act["n"]) for act in operator_acts.recorded(lake)]
        assert sorted(acts) == [(by, n) for by in "ab" for n in range(3)]
    sizes = history(machines[0], "acts")
    assert (sorted(sizes), len(set(sizes))) == ([1, 2, 3, 4, 5, 6], 6)


def test_a_claim_of_a_killed_machine_is_completed_by_another(machines, monkeypatch):
    killed, other = machines
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signer, "announce", interrupt)
        operator_acts.record(killed, {"by": "killed"}, NOON)
    operator_acts.record(other, {"by": "other"}, NOON)
    assert [act["by"] for act in operator_acts.recorded(other)] == ["killed", "other"]


def test_a_claim_that_nobody_trusted_has_signed_is_not_completed(machines):
    lake, _ = machines
    operator_acts.record(lake, {"n": 0}, NOON)
    acts = files.of(lake, "integrity/acts")
    head = replace(signer.published(signer.of(lake, signer.ACTS)), size=2)
    forged = note.signed(head.text, [note.new_key("auditlake")])
    acts.put("claims/1", forged + b'{"act":"retention"}')
    with pytest.raises(signer.Alarm):
        operator_acts.record(lake, {"n": 1}, NOON)


def interrupt(*_arguments):
    raise KeyboardInterrupt


def test_a_table_that_many_create_at_once_is_created_once(store):
    lake = store.lake()
    table = Table(name=LOG.table, schema={"date": pl.Date(), "n": pl.Int64()}, about="")
    rows = [pl.DataFrame({"date": [NOON.date()], "n": [n]}) for n in range(6)]
    at_once(lambda row: commits.append(lake, table, row), rows)
    found = tables.existing(lake, table.name).select("n").collect()
    assert sorted(found["n"]) == [0, 1, 2, 3, 4, 5]
    done = [commit["operation"] for commit in tables.open_table(lake, table.name).history()]
    assert done == ["WRITE"] * 6 + ["CREATE TABLE"]


def test_a_lake_that_was_replaced_is_not_taken_for_the_old_one(store):
    lake = store.lake()
    for number in range(3):
        raw.append(lake, LOG, batch(f"a{number}"), "old")
    assert raw.rows(lake, LOG, 0, 9)["event_id"].to_list() == ["a0", "a1", "a2"]
    bucket = object_store.opened(lake.root, lake.storage_options)
    obstore.delete(bucket, [meta["path"] for page in obstore.list(bucket) for meta in page])
    other = replace(lake, storage_options={**lake.storage_options, "timeout": "29s"})
    for number in range(3):  # as another process would: with none of our handles
        raw.append(other, LOG, batch(f"b{number}"), "new")
    assert raw.position(lake, LOG).cursor == "new"
    assert raw.rows(lake, LOG, 0, 9)["event_id"].to_list() == ["b0", "b1", "b2"]
    assert raw.append(lake, LOG, batch("c"), "new").frame["seq"].to_list() == [3]
