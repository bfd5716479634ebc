"""Damaged files and documents, derived from the bytes that a fuzzer chooses."""

from __future__ import annotations

import json
from typing import Any

_MARK = "\x00here\x00"
_DEEP = 20_000

ODD_VALUES: tuple[bytes, ...] = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b"NaN", b"Infinity", b"{}", b"[]", b'""'),
    *(b"9" * 5_000, b"9223372036854775808", b"18446744073709551616", b"340282366920938463463e9"),
    *(b'"x"', b'"../../x"', b'"\\u0000"', b'"\\ud800"', b'"a\\nb"', b'"' + b"long" * 100 + b'"'),
    *('"\u0663"'.encode(), '"\u00b2"'.encode(), b'"\xff"', b"[[0,1]]", b"[[5,2],[-1,9]]"),
    *(b'{"a":1,"a":2}', b'[["a","b"]]', b"[0,1,2,3,4]", b'"AAAA="', b'"=="', b'"20260301T120000Z"'),
    *(b"[" * _DEEP + b"]" * _DEEP, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
)
"""Values of JSON that a reader does not expect, some of them not valid."""

_ODD_BYTES: tuple[bytes, ...] = (
    *(b"", b"\n", b"\n\n", b"\r\n", b"\0", b"\xff", b" ", b"+", b"=", b"==", b"/", b"-1", b"0"),
    *("\u0663".encode(), "\u2028".encode(), "\u0085".encode(), b"\\ud800", b"9" * 5_000),
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"[" * _DEEP, b"\x1f\x8b", b"PAR1", b"PK\3\4"),
)


class Choices:
    """Decisions read from the bytes of a fuzzer, all zero once these are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, bound: int) -> int:
        """Return a number from 0 up to but not including `bound`, which is at most 65,536."""
        width = 1 if bound <= 256 else 2
        number = int.from_bytes(self._data[self._at : self._at + width])
        self._at += width
        return number % bound

    def one_of(self, options: Any) -> Any:
        return options[self.below(len(options))]

    def rest(self) -> bytes:
        """Return the bytes that no decision has used."""
        found, self._at = self._data[self._at :], len(self._data)
        return found


def spoiled(document: Any, choices: Choices) -> bytes:
    """Return a document as JSON with one value removed or replaced, or with an odd member added.

    The new value is one of ODD_VALUES, or any bytes.
    """
    copy = {"root": json.loads(json.dumps(document))}
    parent, key = _place(copy, choices)
    action, odd = choices.below(6), choices.one_of(ODD_VALUES)
    if action == 0:
        del parent[key]
        return _text(copy.get("root")) if copy else b""
    if action == 1:
        odd = choices.rest()
    elif action == 2 and isinstance(parent, dict):
        key = "unknown"
    elif action == 3 and isinstance(parent, dict):  # the same key twice
        odd = _text(parent[key]) + b"," + _text(key) + b":" + odd
    parent[key] = _MARK
    return _text(copy["root"]).replace(_text(_MARK), odd)


def _text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _place(document: dict[str, Any], choices: Choices) -> tuple[Any, Any]:
    """Return a container in the document's root, or the document, and one of its keys."""
    parent: Any = document
    key: Any = "root"
    for _ in range(choices.below(5)):
        child = parent[key]
        if not isinstance(child, dict | list) or not child:
            break
        parent = child
        key = choices.one_of(sorted(child) if isinstance(child, dict) else range(len(child)))
    return parent, key


def edited(content: bytes, choices: Choices) -> bytes:
    """Return the content with up to four edits: cut off, removed, inserted or repeated bytes."""
    for _ in range(1 + choices.below(4)):
        at = choices.below(65_536) % (len(content) + 1)
        until = at + (choices.below(256) if choices.below(2) else choices.below(4))
        match choices.below(6):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + content[until:]
            case 2:
                content = content[:at] + choices.one_of(_ODD_BYTES) + content[until:]
            case 3:
                content = content[:at] + choices.one_of(ODD_VALUES) + content[until:]
            case 4:
                content = content[:until] + content[at:]
            case _:
                content = content[:at] + bytes([choices.below(256)]) + content[at + 1 :]
    return content
