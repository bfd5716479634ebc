"""Changes of the outbox are decisions about its newest state, in one commit with the position."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelines.lake import deletions, deliveries, pruning, tables
from pipelines.lake.deliveries import Change
from pipelines.lake.tables import Lake

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def row(name, time=NOW, **values):
    return {
        "time": time,
        "delivery": name,
        "receiver": "hook",
        "about": "findings",
        "revision": 0,
        "subjects": ["x"],
        "topic": "t",
        "state": "queued",
        "attempt": 0,
        "next_at": time,
        "receipt": None,
        "claimant": None,
        "payload": f"payload of {name}",
        **values,
    }


def write(lake, *rows, position=None):
    return deliveries.change(lake, EPOCH, lambda _: Change(rows=rows, position=position))


def test_rows_are_numbered_and_the_position_is_kept(lake):
    assert [each["seq"] for each in write(lake, row("a"), row("b"), position=7)] == [0, 1]
    assert [each["seq"] for each in write(lake, row("c"))] == [2]
    seen = []
    deliveries.change(lake, EPOCH, seen.append)
    (state,) = seen
    assert state.position == 7
    assert state.rows["delivery"].to_list() == ["a", "b", "c"]
    assert "payload" not in state.rows.columns
    assert state.payloads(["a", "c"])["payload"].to_list() == ["payload of a", "payload of c"]
    assert state.payloads([]).is_empty()


def test_the_position_may_move_without_a_row(lake):
    write(lake, position=3)
    seen = []
    deliveries.change(lake, EPOCH, lambda state: seen.append(state.position))
    assert seen == [3]


def test_of_two_changes_that_race_the_second_is_decided_again(lake):
    write(lake, row("a"))
    seen = []

    def decide(state):
        seen.append(state.rows.height)
        if len(seen) == 1:
            write(lake, row("faster"))
        return Change(rows=[row("slower")])

    deliveries.change(lake, EPOCH, decide)
    assert seen == [1, 2]
    assert deliveries.recorded(lake, EPOCH)["seq"].to_list() == [0, 1, 2]


def test_old_rows_are_left_out_unless_their_delivery_is_not_finished(lake):
    old, since = NOW - timedelta(days=30), NOW - timedelta(days=14)
    write(lake, row("sent", old), row("waits", old), row("updated", old), row("new"))
    write(lake, row("updated", old, revision=1), row("updated", old, state="sent"))
    write(lake, row("sent", old, state="sent"))
    found = deliveries.recorded(lake, since)["delivery"].to_list()
    assert found == ["waits", "updated", "new", "updated", "updated"]
    write(lake, row("waits", old, state="dead"), row("updated", old, revision=1, state="sent"))
    assert deliveries.recorded(lake, since)["delivery"].to_list() == ["new"]


@pytest.fixture
def read(monkeypatch):
    """The number of data files that were read, per look at them."""
    found, scan = [], pruning.scan

    def counted(lake, table, schema, files):
        found.append(files.height)
        return scan(lake, table, schema, files)

    monkeypatch.setattr(pruning, "scan", counted)
    return found


def test_files_that_were_read_before_are_not_read_again(lake, read):
    for n in range(5):
        write(lake, row(f"d{n}"))
    read.clear()
    write(lake, row("last"))
    assert len(deliveries.recorded(lake, EPOCH)) == 6
    assert len(deliveries.recorded(lake, EPOCH)) == 6
    assert sum(read) <= 2
    found = []
    deliveries.change(lake, EPOCH, lambda state: found.append(state.payloads(["d3"])))
    assert found[0]["payload"].to_list() == ["payload of d3"]
    assert read[-1] == 1


def test_an_older_version_has_its_own_rows(lake, read):
    write(lake, row("before"))
    older = tables.open_table(lake, "deliveries")
    write(lake, row("after"))
    assert deliveries.recorded(lake, EPOCH).height == 2
    read.clear()
    assert deliveries._rows(lake, older)["delivery"].to_list() == ["before"]
    assert deliveries.recorded(lake, EPOCH).height == 2
    assert read == []


def test_rows_that_were_erased_are_forgotten(lake):
    for name in ("a", "b", "c"):
        write(lake, row(name))
    assert deliveries.recorded(lake, EPOCH).height == 3
    for name in ("b", "c"):
        deletions.delete_rows(lake, "deliveries", f"delivery = '{name}'")
    assert deliveries.recorded(lake, EPOCH)["delivery"].to_list() == ["a"]


def test_rows_are_right_after_files_are_joined_and_in_another_lake(lake, tmp_path):
    for n in range(3):
        write(lake, row(f"d{n}"))
    tables.open_table(lake, "deliveries").optimize.compact()
    write(lake, row("last"))
    assert deliveries.recorded(lake, EPOCH)["delivery"].to_list() == ["d0", "d1", "d2", "last"]
    others = [Lake(str(tmp_path / f"lake-{n}")) for n in range(6)]
    for n, other in enumerate(others):
        write(other, row(f"other-{n}"))
    for n, other in enumerate(others):
        assert deliveries.recorded(other, EPOCH)["delivery"].to_list() == [f"other-{n}"]
    assert deliveries.recorded(lake, EPOCH)["seq"].to_list() == [0, 1, 2, 3]


def test_without_tables_there_is_nothing(lake):
    assert deliveries.recorded(lake, EPOCH).is_empty()
    assert deliveries.findings_after(lake, 0, 10) == []
    assert not deliveries.has_news(lake)
