"""Records whose id is stored: the same content adds nothing, another becomes a later version."""

import hashlib
import json
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.lake import known_records, maintenance, raw, reconciliation
from pipelines.lake.tables import Lake
from pipelines.schemas import RAW
from pipelines.sdk.record_versions import MARK, Comparison
from tests.lake.batches import LOG, NOON, rows

RULES = Comparison(volatile=("etag",))


def records(*found, via="poll", shift=timedelta(0)):
    """Return raw rows without seq for (id, content); all have the same time."""
    texts = [json.dumps({"id": id_, **content}) for id_, content in found]
    return pl.DataFrame(
        {
            "event_id": [id_ for id_, _ in found],
            "time": pl.Series([NOON + shift] * len(found), dtype=RAW["time"]),
            "ingested_at": pl.Series([NOON] * len(found), dtype=RAW["ingested_at"]),
            "via": [via] * len(found),
            "raw": texts,
            "raw_sha256": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
        }
    ).with_columns(pl.col("time").dt.date().alias("date"))


def land(lake, *found, **more):
    """Append the records, and return how many were stored."""
    made = records(*found, **more)
    fresh = known_records.any_fresh(lake, LOG, made, RULES)
    stored = raw.append(lake, LOG, made, None, rules=RULES).frame.height
    assert fresh == (stored > 0)
    return stored


def contents(lake):
    """Return the id, the way and the content of every row."""
    found = rows(lake)
    assert found["event_id"].is_unique().all()
    assert found["seq"].to_list() == list(range(found.height))
    return [
        (id_.split(MARK)[0], via, {k: v for k, v in json.loads(text).items() if k != "id"})
        for id_, via, text in found.select("event_id", "via", "raw").iter_rows()
    ]


@pytest.mark.parametrize("ways", [("webhook", "poll"), ("poll", "webhook"), ("poll", "poll"),
                                  ("webhook", "webhook"), ("backfill", "poll")])  # fmt: skip
def test_another_content_of_an_id_is_stored_under_an_id_of_its_own(lake, ways):
    first, second = ways
    assert land(lake, ("a", {"who": "ada"}), ("b", {"who": "bob"}), via=first) == 2
    assert land(lake, ("a", {"who": "eve"}), ("b", {"who": "bob"}), via=second) == 1
    assert contents(lake) == [
        ("a", first, {"who": "ada"}), ("b", first, {"who": "bob"}), ("a", second, {"who": "eve"})
    ]  # fmt: skip
    for _ in range(3):
        assert land(lake, ("a", {"who": "eve"}), ("b", {"who": "bob"}), via=second) == 0
        assert land(lake, ("a", {"who": "ada"}), via=first) == 0


def test_volatile_values_nulls_and_the_order_of_members_are_no_other_content(lake):
    assert land(lake, ("a", {"who": "ada", "etag": 1})) == 1
    for number in range(20):
        assert land(lake, ("a", {"none": None, "etag": number, "who": "ada"})) == 0
    assert len(contents(lake)) == 1


def test_two_contents_in_one_batch_are_both_stored(lake):
    assert land(lake, ("a", {"n": 1}), ("b", {"n": 1}), ("a", {"n": 2}), ("a", {"n": 1})) == 3
    assert [id_ for id_, _, _ in contents(lake)] == ["a", "b", "a"]


def test_a_time_of_less_precision_does_not_hide_another_content(lake):
    land(lake, ("a", {"who": "eve"}), via="webhook")
    assert land(lake, ("a", {"who": "ada"}), shift=timedelta(milliseconds=999)) == 1
    assert [who["who"] for _, _, who in contents(lake)] == ["eve", "ada"]


def test_a_polled_record_is_stored_however_many_forged_ones_came_before(lake):
    for number in range(9):
        land(lake, ("a", {"who": f"forged {number}"}), via="webhook")
    assert land(lake, ("a", {"who": "ada"})) == 1
    assert contents(lake)[-1] == ("a", "poll", {"who": "ada"})


def test_a_true_copy_that_was_pushed_does_not_keep_the_polled_record_out(lake):
    land(lake, ("a", {"who": "eve"}), via="webhook")
    land(lake, ("a", {"who": "ada"}), via="webhook")
    assert land(lake, ("a", {"who": "ada"})) == 1
    assert land(lake, ("a", {"who": "ada"})) == 0
    assert land(lake, ("a", {"who": "ada"}), via="webhook") == 0


def test_from_the_fourth_version_on_they_are_counted_and_reported_once(lake, caplog):
    for number in range(8):
        land(lake, ("a", {"n": number}))
    assert [content["n"] for _, _, content in contents(lake)] == [0, 1, 2]
    assert len(caplog.messages) == 5
    land(lake, *(("a", {"n": number}) for number in range(8)))
    assert len(caplog.messages) == 5
    assert all("1 records have an id with 3 other versions" in each for each in caplog.messages)


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.sampled_from("pw")),
            min_size=1,
            max_size=4,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_arrived_adds_nothing_when_it_arrives_again(tmp_path_factory, batches):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    made = [
        pl.concat(
            records((id_, {"n": n}), via="poll" if way == "p" else "webhook")
            for id_, n, way in each
        )
        for each in batches
    ]
    for each in made:
        raw.append(lake, LOG, each, None)
    before = contents(lake)
    for each in made:
        raw.append(lake, LOG, each, None)
    after = contents(lake)
    assert after[: len(before)] == before
    # A pushed record that a later one confirmed may be stored once more, never twice.
    for each in made:
        raw.append(lake, LOG, each, None)
    assert contents(lake) == after
    polled = {(id_, str(n)) for id_, via, n in after if via == "poll"}
    assert len(polled) == len([1 for _, via, _ in after if via == "poll"])


def test_maintenance_keeps_every_version_and_none_is_stored_again(lake):
    for number in range(3):
        land(lake, ("a", {"n": number}), (f"b{number}", {}))
    before = contents(lake)
    list(maintenance.maintain(lake, [LOG], date(2026, 3, 9)))
    assert contents(lake) == before
    assert land(lake, *(("a", {"n": number}) for number in range(3))) == 0


def test_versions_count_as_one_event_when_pushes_are_compared_with_polling(lake):
    land(lake, ("a", {"who": "eve"}), ("b", {}), via="webhook")
    land(lake, ("a", {"who": "ada"}))
    day = NOON.date() - timedelta(days=1)
    (found,) = reconciliation.compare(lake, LOG, day, NOON + timedelta(days=1)).to_dicts()
    assert (found["polled"], found["pushed"], found["both"], found["unconfirmed"]) == (1, 2, 1, 1)


def test_ids_that_are_stored_are_found_with_their_versions(lake):
    land(lake, ("a", {"n": 1}))
    land(lake, ("a", {"n": 2}))
    wanted = records(("a", {}), ("z", {})).select("event_id", "time")
    assert known_records.existing(lake, LOG, wanted) == ["a"]
    assert known_records.existing(lake, LOG, wanted.clear()) == []
