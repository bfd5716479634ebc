"""Reading fields: an odd value costs only its column; the compiled reader equals a plain one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mapping.field_reader import Reader, at
from pipelines.sdk.contract import Field


def read(columns, *records, explode=None):
    """Return the rows of each record, and the faults by column."""
    reader = Reader(columns, explode)
    found = list(reader.rows(json.dumps(record).encode() for record in records))
    return found, dict(reader.faults)


def rows(columns, record, explode=None):
    ((found,), _) = read(columns, record, explode=explode)
    return found


def upper(text):
    return text.upper()


def test_values_come_in_the_order_of_the_columns():
    columns = {"b": "actor.name", "a": "id", "c": "actor.contact.email"}
    record = {"id": 7, "actor": {"name": "Ada", "contact": {"email": "ada@acme.io"}}, "more": {}}
    assert rows(columns, record) == [["Ada", 7, "ada@acme.io"]]


@pytest.mark.parametrize(
    "record",
    [{}, {"actor": None}, {"actor": {}}, {"actor": {"name": None}}, {"actor": {"Name": "Ada"}}],
)
def test_a_missing_path_is_null_and_no_fault(record):
    assert read({"name": "actor.name"}, record) == ([[[None]]], {})


@pytest.mark.parametrize("odd", ["text", 7, True, [], [{"name": "Ada"}], [None]])
def test_a_value_where_an_object_should_be_costs_only_its_own_column(odd):
    assert read({"id": "id", "name": "actor.name"}, {"id": "1", "actor": odd}) == (
        [[["1", None]]],
        {},
    )


@pytest.mark.parametrize("odd", [b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 3000])
def test_bytes_that_are_no_record_give_one_empty_row(odd):
    reader = Reader({"id": "id", "name": Field(lambda name: name, "actor.name")})
    before, found, after = reader.rows([b'{"id":1}', odd, b'{"id":2}'])
    assert (before, found, after) == ([[1, None]], [[None, None]], [[2, None]])


def test_of_two_spellings_the_first_that_is_not_null_counts():
    columns = {"id": "actor.id|ActorId|actor_id"}
    records = [{"actor": {"id": None}, "ActorId": 2}, {"actor_id": 3}, {"actor": {"id": 0}}, {}]
    assert read(columns, *records)[0] == [[[2]], [[3]], [[0]], [[None]]]


def test_a_path_and_one_below_it_may_both_be_read():
    columns = {"whole": "actor", "name": "actor.name", "email": "actor.contact.email"}
    actor = {"name": "Ada", "contact": {"email": "a@b"}}
    assert rows(columns, {"actor": actor}) == [[actor, "Ada", "a@b"]]
    assert rows(columns, {"actor": "Ada"}) == [["Ada", None, None]]


def test_every_element_of_the_exploded_list_is_a_row():
    columns = {"id": "id", "name": "events[].name", "value": "events[].detail.value"}
    record = {"id": 1, "events": [{"name": "a", "detail": {"value": 5}}, {"name": "b"}]}
    assert rows(columns, record, "events") == [[1, "a", 5], [1, "b", None]]


@pytest.mark.parametrize("events", [None, [], {}, "text", 7])
def test_a_record_without_a_list_to_explode_still_gives_one_row(events):
    columns = {"id": "id", "name": "events[].name"}
    assert rows(columns, {"id": 1, "events": events}, "events") == [[1, None]]
    assert rows(columns, {"id": 1}, "events") == [[1, None]]


@pytest.mark.parametrize("odd", [None, 7, "text", [], {}, {"name": None}])
def test_an_odd_element_of_a_list_gives_a_row_of_its_own(odd):
    columns = {"id": "id", "name": "events[].name"}
    record = {"id": 1, "events": [{"name": "a"}, odd, {"name": "c"}]}
    assert rows(columns, record, "events") == [[1, "a"], [1, None], [1, "c"]]


def test_a_function_that_raises_leaves_its_column_null_and_is_counted():
    columns = {"id": "id", "name": Field(upper, "name"), "again": Field(upper, "other")}
    records = [
        {"id": 1, "name": "ada", "other": "x"},
        {"id": 2, "name": 7, "other": "y"},
        {"id": 3},
    ]
    found, faults = read(columns, *records)
    assert found == [[[1, "ADA", "X"]], [[2, None, "Y"]], [[3, None, None]]]
    assert faults == {"name": 2, "again": 1}


def test_a_function_that_raises_for_one_element_spares_the_others():
    columns = {"name": Field(upper, "events[].name")}
    record = {"events": [{"name": "a"}, {"name": None}, {"name": "c"}]}
    assert read(columns, record, explode="events") == ([[["A"], [None], ["C"]]], {"name": 1})


def test_a_field_shared_by_columns_is_computed_once_per_row():
    calls = []
    shared = Field(lambda name: calls.append(name) or name, "name")
    columns = {"one": Field(upper, shared), "two": Field(len, shared), "three": Field(str, shared)}
    assert read(columns, {"name": "ada"}, {"name": "bob"})[0] == [
        [["ADA", 3, "ada"]],
        [["BOB", 3, "bob"]],
    ]
    assert calls == [None, "ada", "bob"]  # once more to learn what it makes of nothing


def test_a_path_through_a_list_is_null():
    assert at({"a": [{"b": 1}]}, "a.b") is None
    assert at({"a": {"b": {"c": 1}}}, "a.b.c") == 1
    assert at(None, "a") is None


names = st.sampled_from(["a", "b", "c", "list", "\u00fc", "a.b", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
COLUMNS = {
    "plain": "a",
    "deep": "a.b.c",
    "either": "a.b|c.a|b",
    "element": "list[].a",
    "inside": "list[].b.c|c",
    "made": Field(lambda *found: len(found[0]) + found[1], "list[].a", "c"),
    "nested": Field(lambda text, other: f"{text}{other}", Field(str, "a"), Field(upper, "b")),
}


@pytest.mark.parametrize("explode", [None, "list"])
@given(st.lists(st.dictionaries(names, values, max_size=5), max_size=4))
def test_the_compiled_reader_agrees_with_the_plain_one(explode, records):
    columns = {
        name: column
        for name, column in COLUMNS.items()
        if explode or name not in ("element", "inside", "made")
    }
    compiled, plain = Reader(columns, explode), Reader(columns, explode)
    lines = [json.dumps(record).encode() for record in records]
    assert list(compiled.rows(lines)) == [plain._rows_of_plain_value(line) for line in lines]
    assert compiled.faults == plain.faults


def odd_objects(values):
    """Return a strategy for objects as text, in which names may come twice or be escaped."""
    members = st.tuples(st.sampled_from([*"abc", "i", "items", r"\u0061", r"\ud800"]), values)
    return st.lists(members, max_size=6).map(
        lambda found: "{" + ", ".join(f'"{name}":{value}' for name, value in found) + "}"
    )


odd_values = st.recursive(
    st.sampled_from(
        [
            *("null", "true", "7", "-0", "18446744073709551616", "9" * 400),
            *("1e999", "NaN", "-Infinity", '"Ada"', '""', r'"\ud800"', r'"\ud83d\ude00"'),
            *('"\x01"', '"\ufeffé"', r'"\u0000"', "[" * 70 + "]" * 70),
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: f"[{','.join(values)}]"),
        odd_objects(inner),
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("explode", [None, "items"])
@given(odd_objects(odd_values).map(str.encode))
def test_the_compiled_reader_agrees_with_the_plain_one_on_odd_json(explode, record):
    paths = ["a", "a.b", "a.b.c", "b.c", "b.i|c.a", "items[].a" if explode else "items"]
    reader = Reader({path: path for path in paths}, explode)
    (found,) = reader.rows([record])
    # As text, since NaN does not equal itself, nor -0.0 and 0 differ.
    assert repr(found) == repr(reader._rows_of_plain_value(record))


def test_a_function_of_nothing_is_called_once_for_all_records():
    calls = []

    def counted(value):
        calls.append(value)
        return "nothing" if value is None else value

    columns = {"own": Field(counted, "a"), "outer": Field(counted, Field(counted, "b|c"))}
    found, _ = read(columns, *[{}] * 5, {"a": 1}, {"c": 2})
    assert found == [*[[["nothing", "nothing"]]] * 5, [[1, "nothing"]], [["nothing", 2]]]
    assert calls == [None, None, "nothing", 1, 2, 2]


def test_a_function_that_fails_on_nothing_is_a_fault_of_each_record():
    assert read({"name": Field(upper, "name")}, {}, {}, {"name": "a"}) == (
        [[[None]], [[None]], [["A"]]],
        {"name": 2},
    )
