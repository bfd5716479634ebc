"""Splitting responses into records: every byte is kept, malformed records cost only themselves."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sdk import json_records
from pipelines.sdk.json_records import MalformedJson

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(values, max_size=6), st.sampled_from([None, 2]))
def test_elements_are_the_documents_own_bytes(items, indent):
    body = json.dumps(items, indent=indent).encode()
    found = json_records.split_array(body)
    assert [json.loads(f) for f in found] == items
    assert all(f in body and f == f.strip() for f in found)


@given(st.dictionaries(st.text(), values, max_size=6))
def test_members_are_the_documents_own_bytes(document):
    body = json.dumps(document).encode()
    assert {k: json.loads(v) for k, v in json_records.split_object(body).items()} == document


@given(st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), min_size=1, max_size=4))
def test_a_truncated_document_is_never_complete(items):
    body = json.dumps(items).encode()
    assert json_records.is_complete(body)
    for end in range(1, len(body)):
        assert not json_records.is_complete(body[:end])


@pytest.mark.parametrize(
    "odd",
    [
        b'{"id":"\\ud800"}',
        b'{"id":"a\x00b"}',
        b'{"deep":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"n":01}',
        b'{"n":1e999}',
        b'{"same":1,"same":2}',
        b'{"id":"\xff\xfe"}',
    ],
    ids=["lone surrogate", "NUL", "deep", "leading zero", "huge", "duplicate key", "not UTF-8"],
)
def test_one_malformed_record_does_not_cost_its_neighbours(odd):
    body = b'[{"id":"1"}, ' + odd + b' ,{"id":"3"}]'
    assert json_records.is_complete(body)
    assert json_records.split_array(body) == [b'{"id":"1"}', odd, b'{"id":"3"}']
    wrapped = b'{"value":' + body + b',"next":"x"}'
    assert json_records.split_object(wrapped) == {"value": body, "next": b'"x"'}


def test_lone_surrogates_are_replaced_and_excessive_depth_is_reported():
    assert json_records.load(b'{"a":"x\\ud800y"}') == {"a": "x\ufffdy"}
    with pytest.raises(ValueError, match="deep"):
        json_records.load(b"[" * 200_000 + b"]" * 200_000)
    with pytest.raises(ValueError, match="UTF-8"):
        json_records.load(b'{"a":"\xff"}')


def test_lines_of_ndjson():
    assert json_records.split_lines(b'{"a":1}\r\n\n{"b":2}') == [b'{"a":1}', b'{"b":2}']


def test_lone_surrogates_can_be_spelled_so_that_texts_stay_distinct():
    spelled = json_records.with_spelled_surrogates(b'{"a":["x\\ud800", "\\ud83d\\ude00"], "b": 1}')
    assert json_records.load(spelled) == {"a": ["x\ufffdD800", "\U0001f600"], "b": 1}
    for record in (b"{", b"\xff", b"[" * 100_000, b'{"a": 1%s}' % (b"0" * 40)):
        assert json_records.with_spelled_surrogates(record) in (record, record.replace(b" ", b""))


@pytest.mark.parametrize("name", [b"", b"x", b'"a" "b"', b'"\xff"', b"9" * 5_000])
def test_a_malformed_name_of_a_member_is_a_malformed_object(name):
    with pytest.raises(MalformedJson):
        json_records.split_object(b"{" + name + b': "\x01"}')
