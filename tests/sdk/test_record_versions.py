"""Two contents of one id: what counts as the same, and which version is shown."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sdk import record_versions
from pipelines.sdk.record_versions import MARK, Comparison

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOVED = Comparison(pushed_as={"client.chain": "request.chain"})
LISTED = Comparison(pushed_as={"Who": "actor.id"}, pushed_only=True, volatile=("ID",))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


def content(value, via="poll", rules=None):
    record = value if isinstance(value, bytes) else json.dumps(value).encode()
    return record_versions.content(record, pushed=via == "webhook", rules=rules or Comparison())


def known(new, *stored, rules=None):
    """Return whether the versions (via, value) make the new one needless."""
    return record_versions.is_known(
        content(new[1], new[0], rules), [content(value, via, rules) for via, value in stored]
    )


def shuffled(value):
    match value:
        case dict():
            return {k: shuffled(v) for k, v in reversed(value.items())} | {"\0absent": None}
        case list():
            return [shuffled(item) for item in value]
    return value


@given(VALUES)
def test_neither_the_order_of_members_nor_a_null_is_another_content(value):
    assert content(value).hash == content(shuffled(value)).hash


@given(VALUES)
def test_a_record_agrees_with_itself_whichever_way_it_came(value):
    for first, second in (("poll", "poll"), ("poll", "webhook"), ("webhook", "poll")):
        assert known((second, {"a": value}), (first, {"a": value}))


@pytest.mark.parametrize("via", ["poll", "webhook"])
@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1, "b": 1}, {"a": [1]}, {"a": "1 "}, {}])
def test_another_value_is_another_content(via, other):
    assert not known((via, other), (via, {"a": 1}))


def test_volatile_values_do_not_count():
    rules = Comparison(volatile=("etag", "meta.read", "no.such"))
    one = {"a": 1, "etag": "x", "meta": {"read": 1, "kept": 1}}
    assert known(("poll", {**one, "etag": "y", "meta": {"read": 2, "kept": 1}}), ("poll", one),
                 rules=rules)  # fmt: skip
    assert not known(("poll", {**one, "meta": {"kept": 2}}), ("poll", one), rules=rules)


def test_lists_may_be_in_another_order_only_where_the_connector_declares_it():
    one, other = {"a": [{"x": 1}, {"y": [1, 2]}]}, {"a": [{"y": [2, 1]}, {"x": 1}]}
    assert not known(("poll", other), ("poll", one))
    assert known(("poll", other), ("poll", one), rules=Comparison(unordered=True))


@pytest.mark.parametrize(
    ("pushed", "polled"),
    [
        ({"client": {"chain": [1]}}, {"request": {"chain": [1]}}),
        ({"a": "", "b": {}}, {"a": None, "c": []}),
        ({"ip": "::ffff:192.0.2.1"}, {"ip": "192.0.2.1"}),
        ({"at": "2026-03-01T12:00:00Z"}, {"at": "2026-03-01T12:00:00.981Z"}),
        ({"n": 0, "t": True}, {"n": "0", "t": "true"}),
        ({"n": 43.0}, {"n": 43}),
    ],
)
def test_another_spelling_of_the_same_content_is_no_other_version(pushed, polled):
    assert known(("poll", polled), ("webhook", pushed), rules=MOVED)
    assert known(("webhook", pushed), ("poll", polled), rules=MOVED)


@pytest.mark.parametrize(
    ("pushed", "polled"),
    [
        ({"a": "x 192.0.2.1"}, {"a": "y 192.0.2.1"}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": "x"}, {"a": {"b": "x"}}),
        ({"client": {"chain": [2]}}, {"request": {"chain": [1]}}),
        ({"client": {"chain": [1]}, "request": {"chain": [2]}}, {"request": {"chain": [1]}}),
    ],
)
def test_a_push_that_differs_is_another_version_whichever_came_first(pushed, polled):
    assert not known(("poll", polled), ("webhook", pushed), rules=MOVED)
    assert not known(("webhook", pushed), ("poll", polled), rules=MOVED)


@pytest.mark.parametrize(
    "pushed", [{}, {"a": 1}, {"a": 1, "b": "", "c": {}}, {"a": 1, "b": 2, "d": 4}]
)
def test_a_push_with_less_or_more_is_completed_by_the_polled_record(pushed):
    polled = {"a": 1, "b": 2, "c": {"d": 3}}
    assert not known(("poll", polled), ("webhook", pushed))
    assert known(("webhook", pushed), ("poll", polled))


def test_fields_of_another_shape_are_compared_with_the_paths_they_stand_for():
    polled = {"id": "1", "actor": {"id": "ada"}, "more": 1}
    assert known(("poll", polled), ("webhook", {"ID": "1", "Who": "ada"}), rules=LISTED)
    for forged in ({"ID": "1", "Who": "bob"}, {"ID": "1", "Who": "ada", "actor": {"id": "bob"}}):
        assert not known(("poll", polled), ("webhook", forged), rules=LISTED)
    # It agrees, but shows something that no polled record confirms.
    extra = {"ID": "1", "Who": "ada", "actor": {"name": "Bob"}}
    assert not known(("poll", polled), ("webhook", extra), rules=LISTED)


def test_a_true_copy_that_is_pushed_does_not_hide_the_polled_record_from_a_forged_one():
    true, forged = {"a": 1}, {"a": 2}
    assert not known(("poll", true), ("webhook", forged), ("webhook", true))
    assert content(true).hash != content(true, "webhook").hash


def test_after_a_push_was_confirmed_a_forged_one_is_not_shown():
    true, forged = {"a": 1}, {"a": 2}
    assert known(("poll", true), ("webhook", true), ("webhook", forged))
    assert shown(("webhook", 0), ("webhook", 1)) == [0]


def versions(*rows, raws=None):
    ids = ["id", *(f"id{MARK}{number:032x}" for number in range(1, len(rows)))]
    return pl.DataFrame(
        {
            "event_id": ids,
            "time": [NOON] * len(rows),
            "via": [via for via, _ in rows],
            "seq": [seq for _, seq in rows],
            "raw": raws or ["{}"] * len(rows),
        }
    )


def shown(*rows):
    return versions(*rows).filter(~record_versions.superseded())["seq"].to_list()


@pytest.mark.parametrize(
    ("rows", "seq"),
    [
        ([("webhook", 3), ("poll", 7)], 7),
        ([("poll", 3), ("webhook", 7)], 3),
        ([("poll", 3), ("poll", 7), ("webhook", 8)], 7),
        ([("backfill", 3), ("webhook", 8)], 3),
        ([("webhook", 3), ("webhook", 8)], 3),
    ],
)
def test_the_newest_polled_version_is_shown_or_else_the_first_push(rows, seq):
    assert shown(*rows) == [seq]


def test_ids_of_versions_lead_back_to_the_record_and_only_those():
    ids = ["a", "a@b", "a#1", f"a@b{MARK}{'0' * 32}", f"line\nbreak{MARK}0a"]
    frame = pl.DataFrame({"event_id": ids})
    found = frame.select(record_versions.record_id(), later=record_versions.is_later())
    assert found["event_id"].to_list() == ["a", "a@b", "a#1", "a@b", "line\nbreak"]
    assert found["later"].to_list() == [False, False, False, True, True]


def test_contradicting_versions_are_named_and_completing_ones_are_not():
    def found(*pairs):
        made = versions(*((via, seq) for seq, (via, _) in enumerate(pairs)),
                        raws=[json.dumps(value) for _, value in pairs])  # fmt: skip
        return list(record_versions.differences(made, Comparison()))

    assert found(("webhook", {"a": 1}), ("poll", {"a": 1, "b": 2})) == []
    (forged,) = found(("webhook", {"a": 1}), ("poll", {"a": 2}))
    assert (forged.record, forged.pushed) == ("id", True)
    assert forged.words == "id: row 0 pushed, row 1 polled; events shows row 1"
    (edited,) = found(("poll", {"a": 1}), ("poll", {"a": 2}), ("poll", {"a": 3}))
    assert not edited.pushed
    assert edited.words.endswith("events shows row 2; later ones are not stored")
    assert found(("webhook", {"a": 1}), ("webhook", {"a": 2}))[0].pushed


@pytest.mark.parametrize(
    "record",
    [
        b"\xff",
        b"{",
        b"[" * 5000 + b"]" * 5000,
        b'{"a":' + b"[" * 90 + b"1" + b"]" * 90 + b"}",
        b'{"n":' + b"9" * 400 + b"}",
        b'{"a":"\\ud800"}',
    ],
)
def test_a_record_that_is_hard_to_parse_is_compared_nevertheless(record):
    assert known(("poll", record), ("poll", record))
    assert known(("webhook", record), ("poll", record))


def test_no_time_tolerance_applies_to_the_same_way():
    late = (NOON + timedelta(milliseconds=5)).isoformat()
    assert not known(("poll", {"at": late}), ("poll", {"at": NOON.isoformat()}))
