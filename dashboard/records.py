"""A vendor's record as a list of its fields, with those that a rule has read marked. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

MOST = 400
"""Fields of one record."""
_INDEX = re.compile(r"\[\d+\]")
_SCHEMA = {"mark": pl.String(), "field": pl.String(), "value": pl.String()}


def fields(raw: str, matched: Iterable[Mapping[str, str | None]]) -> pl.DataFrame:
    """Return the fields of a record in JSON: mark ("▸" if a rule matched on it), field, value.

    What matched comes first, also what the record has under another name or not at all.
    """
    pairs = list(dict.fromkeys((one["field"] or "", one["value"] or "") for one in matched))
    found = list(_leaves("", _parsed(raw)))[:MOST]
    read = [(path, text) for path, text in found if any(_same(path, text, one) for one in pairs)]
    named = [one for one in pairs if not any(_same(path, text, one) for path, text in read)]
    first = [("▸", *one) for one in (*read, *named)]
    rest = [("", path, text) for path, text in found if (path, text) not in read]
    return pl.DataFrame([*first, *rest], schema=_SCHEMA, orient="row")


def _parsed(raw: str) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _leaves(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    match value:
        case dict() if depth < 20:
            for name, below in value.items():
                yield from _leaves(f"{path}.{name}" if path else str(name), below, depth + 1)
        case list() if depth < 20:
            for place, below in enumerate(value):
                yield from _leaves(f"{path}[{place}]", below, depth + 1)
        case None:
            return
        case str():
            yield path, value
        case _:
            yield path, json.dumps(value, ensure_ascii=False)


def _same(path: str, text: str, matched: tuple[str, str]) -> bool:
    """Return True for the field of this name, or one of an alias with the same value."""
    name, value = matched
    plain = _INDEX.sub("", path).casefold()
    if text != value:
        return False
    wanted = name.casefold()
    return plain == wanted or plain.rpartition(".")[2] == wanted.rpartition(".")[2]
