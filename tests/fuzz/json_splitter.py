"""Targets for splitting pages into records: byte for byte, and as other parsers read them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import msgspec

from pipelines.sdk import json_records
from pipelines.sdk.json_records import MalformedJson

SEEDS = (
    b'[{"uuid":"1","published":"2026-01-01T00:00:00Z"},{"uuid":"2"}]',
    b'{"data":{"events":[{"a":"]"},{"b":"\\""}]},"links":[{"x":null}]}',
    b'[1, "\\ud800", "\x01", {"a" : [ ] } , -0.5e3]',
    b'{"a":1}\n{"a":2}\r\n\n{"a"',
    b'[{"a":' * 40 + b"1" + b"}]" * 40,
)


def seeds() -> list[bytes]:
    return list(SEEDS)


def array(data: bytes) -> None:
    """An array is Malformed, or its elements are parts of it, in order, and can be split again."""
    with suppress(MalformedJson):
        parts = json_records.split_array(data)
        _check_parts(data, parts)
        # A comma after the last element opens no other one, so that an empty element stays one.
        again = json_records.split_array(b"[" + b"".join(part + b"," for part in parts) + b"]")
        assert again == parts
    known = _strictly(data)
    if isinstance(known, list):
        assert [json.loads(part) for part in json_records.split_array(data)] == known
        assert [value for _, value in json_records._cut(data, b"[")] == list(
            map(bytes.strip, json_records.split_array(data))
        )


def members(data: bytes) -> None:
    """An object is Malformed, or has the values that Python's own parser finds."""
    with suppress(MalformedJson):
        found = json_records.split_object(data)
        _check_parts(data, list(found.values()), ordered=False)
    known = _strictly(data)
    if isinstance(known, dict):
        assert {name: json.loads(part) for name, part in found.items()} == known


def _check_parts(data: bytes, parts: list[bytes], *, ordered: bool = True) -> None:
    at = 0
    for part in parts:
        assert part in data
        if ordered:
            at = data.index(part, at) + len(part)


def lines(data: bytes) -> None:
    """No byte of a line is lost, but line ends and empty lines."""
    found = json_records.split_lines(data)
    assert all(line.strip() and b"\n" not in line for line in found)
    assert b"".join(found).replace(b"\r", b"") in b"".join(
        line for line in data.split(b"\n") if line.strip()
    ).replace(b"\r", b"")
    assert json_records.split_lines(b"\n".join(found)) == found


def record(data: bytes) -> None:
    """A record is a ValueError, or has a canonical form that is stable and can be parsed again."""
    canonical = json_records.canonical(data)
    assert json_records.canonical(canonical) == canonical
    spelled = json_records.with_spelled_surrogates(data)
    assert isinstance(spelled, bytes)
    json_records.is_complete(data)
    with suppress(ValueError):
        value = json_records.load(data)
        msgspec.json.encode(value)
        known = _strictly(data)
        if known is not None:
            assert _plain(value) == _plain(known)


def _strictly(data: bytes) -> Any:
    """Return the document as Python's own parser reads it, without NaN; None if it does not."""

    def refuse(name: str) -> Any:
        raise ValueError(name)

    try:
        return json.loads(data.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def _plain(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", "\ufffd", text)
