"""Completion of the search box: names of fields, and their values from `rollups`, never a scan."""

from __future__ import annotations

import functools
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dashboard import fields, open_lake, visits
from dashboard.counts import Counts
from dashboard.sight import Sight
from pipelines.clock import utc_now
from pipelines.search.fields import ALIASES, TIMES

SCRIPT = (Path(__file__).parent / "static" / "complete.html").read_text()
_MOST = 12
_VALUES = 20_000  # of a field, the most frequent
_LONGEST = 500  # characters of a search that is completed
_NAMES = (*fields.NAMES, *ALIASES)
# The term being written: perhaps a field, then perhaps values before the last one.
_TERM = re.compile(r'(?:^|[\s(])-?(?:([\w.]+)[:=]\(?(?:[^\s"(),]+,\s?)*)?("?)([^\s"(),]*)$')
_PLAIN = re.compile(r'[^\s"(),*\\]+')
_OPERATOR = re.compile(r"(?i)(?:and|or|not)$|[-\[{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    text: str  # replaces the end of the search, from `start`
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    start: int
    choices: list[Choice]


def complete(counts: Counts, text: str) -> Completion:
    """Return the ways to continue the last term of `text`."""
    found = _TERM.search(text) if len(text) <= _LONGEST else None
    if found is None:
        return Completion(start=len(text), choices=[])
    name, quote, part = found.groups()
    start = found.start(2)
    if name is None:
        return Completion(start=start, choices=[] if quote else _names(part))
    field = fields.resolve(name)
    return Completion(start=start, choices=_values(counts, field, part) if field else [])


async def serve(request: Request) -> Response:
    """Return the completion of the text in the body, to browsers that may see the lake."""
    sight = visits.ADMITTED.sight(visits.session(request.cookies), utc_now())
    if sight is None:
        return JSONResponse({"error": "sign in and open the page first"}, 403)
    text = (await request.body())[: 4 * _LONGEST].decode(errors="replace")
    found = await run_in_threadpool(_in_the_lake, sight, text)
    return JSONResponse(asdict(found), headers={"cache-control": "no-store"})


def _in_the_lake(sight: Sight, text: str) -> Completion:
    snapshot = open_lake.seen_by(sight).look()
    if snapshot is None:
        return Completion(start=len(text), choices=[])
    return complete(snapshot.counts, text)


def _names(part: str) -> list[Choice]:
    """Return the fields that begin with, then those that contain the written text."""
    part = part.lower()
    if not part:
        return []
    known = [*(f"{name}:" for name in _NAMES), *(f"{name}>=" for name in TIMES)]
    first = sorted(name for name in known if name.startswith(part))
    later = sorted(name for name in known if part in name and name not in first)
    return [Choice(text=name, about=_about(name)) for name in [*first, *later][:_MOST]]


def _about(name: str) -> str:
    plain = name.rstrip(":>=")
    return f"same as {ALIASES[plain]}" if plain in ALIASES else "field"


def _values(counts: Counts, field: str, part: str) -> list[Choice]:
    known = _known(counts, field)
    value = pl.col("value")
    begins = value.str.to_lowercase().str.starts_with(part.lower())
    matching = known.filter(
        value.str.contains_any([part], ascii_case_insensitive=True) | (part == "")
    )
    ranked = matching.with_columns(begins=begins).sort(
        "begins", descending=True, maintain_order=True
    )
    return [
        Choice(text=_quoted(text), about=f"{n:,} event{'s' * (n != 1)}")
        for text, n in ranked.select("value", "n").head(_MOST).iter_rows()
    ]


@functools.lru_cache(maxsize=32)
def _known(counts: Counts, field: str) -> pl.DataFrame:
    """Return the values of a field in one version of the lake, most frequent first: value, n."""
    return (
        counts.rolled_up(field)
        .drop_nulls("value")
        .group_by("value")
        .agg(pl.col("n").sum())
        .sort(["n", "value"], descending=[True, False])
        .head(_VALUES)
        .collect()
    )


def _quoted(value: str) -> str:
    """Return a value as it is written in a search, in quotes where it has to be."""
    if _PLAIN.fullmatch(value) and not _OPERATOR.match(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
