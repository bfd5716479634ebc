"""Split a response into the exact bytes of its records, and parse single records tolerantly.

msgspec splits more than a million well-formed records per second, but it rejects a whole page for
one malformed record (a lone surrogate, a control character, nesting a thousand deep). Such a page
is split by its brackets instead, so that only the malformed record is rejected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()
_whole = msgspec.json.Decoder(msgspec.Raw)

_ODD = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},:]|"', re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSES = {b"[": b"]", b"{": b"}"}


class MalformedJson(ValueError):
    """The bytes are not a complete JSON document: truncated, or not JSON at all."""


def split_array(body: bytes) -> list[bytes]:
    """Return the elements of a JSON array, each byte for byte. Raises Malformed."""
    try:
        return [bytes(raw) for raw in _elements.decode(body)]
    except _ODD:
        return [value for _, value in _cut(body, b"[")]


def split_object(body: bytes) -> dict[str, bytes]:
    """Return the members of a JSON object, each value byte for byte. Raises Malformed."""
    try:
        return {name: bytes(raw) for name, raw in _members.decode(body).items()}
    except _ODD:
        return {_name(name): value for name, value in _cut(body, b"{")}


def split_lines(body: bytes) -> list[bytes]:
    """Return the lines of an NDJSON text, without line ends and empty lines."""
    return [line for line in (line.rstrip(b"\r") for line in body.split(b"\n")) if line.strip()]


def is_complete(body: bytes) -> bool:
    """Return whether this is a complete JSON document; single members may still be malformed."""
    try:
        _whole.decode(body)
    except _ODD:
        return _balanced(body)
    return True


def load(record: bytes) -> Any:
    """Return the record as Python values; lone surrogates become U+FFFD. Raises ValueError."""
    try:
        return _any.decode(record)
    except _ODD:
        pass
    # Slower, but tolerant: json accepts control characters and lone surrogates.
    try:
        return _encodable(json.loads(record.decode("utf-8"), strict=False))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None


def with_spelled_surrogates(record: bytes) -> bytes:
    """Return the record with the code point after the U+FFFD of each lone surrogate.

    Texts that differ only in a lone surrogate then still differ. A record that has none, or cannot
    be parsed, is returned unchanged.
    """
    try:
        value = json.loads(record.decode("utf-8"), strict=False)
        return msgspec.json.encode(_encodable(value, lambda char: f"\ufffd{ord(char[0]):04X}"))
    except (ValueError, OverflowError, RecursionError):
        return record


def canonical(record: bytes) -> bytes:
    """Return the same bytes for equal records, whatever the order of their members."""
    try:
        return msgspec.json.encode(load(record), order="sorted")
    except ValueError:
        return record


def _encodable(value: Any, instead: str | Callable[[re.Match[str]], str] = "\ufffd") -> Any:
    match value:
        case str():
            return _SURROGATE.sub(instead, value)
        case dict():
            return {_encodable(k, instead): _encodable(v, instead) for k, v in value.items()}
        case list():
            return [_encodable(item, instead) for item in value]
    return value


def _name(key: bytes) -> str:
    try:
        name = load(key)
    except ValueError:
        raise MalformedJson("the name of a member is malformed") from None
    return name if isinstance(name, str) else ""


def _balanced(body: bytes) -> bool:
    try:
        start = body.lstrip()[:1]
        if start not in _CLOSES:
            return False
        for _ in _cut(body, start):
            pass
    except MalformedJson:
        return False
    return True


def _cut(body: bytes, opening: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, value) for each member of the outermost object, or (b"", value) for an array."""
    if not body.lstrip().startswith(opening):
        raise MalformedJson("not the expected JSON")
    open_brackets: list[bytes] = []
    start, name = 0, b""
    # Brackets inside strings do not count: the pattern consumes a string as one token.
    for token in _TOKEN.finditer(body):
        match token[0]:
            case b"[" | b"{":
                open_brackets.append(_CLOSES[token[0]])
                start = token.end() if len(open_brackets) == 1 else start
            case b"]" | b"}":
                if not open_brackets or open_brackets.pop() != token[0]:
                    raise MalformedJson("brackets do not match")
                if not open_brackets:
                    if last := body[start : token.start()].strip():
                        yield name, last
                    if body[token.end() :].strip():
                        raise MalformedJson("something follows the document")
                    return
            case b"," if len(open_brackets) == 1:
                yield name, body[start : token.start()].strip()
                start, name = token.end(), b""
            case b":" if len(open_brackets) == 1 and opening == b"{" and not name:
                name, start = body[start : token.start()].strip(), token.end()
            case b'"':  # a quote that opens no complete string
                raise MalformedJson("truncated inside a string")
    raise MalformedJson("truncated")
