"""Text of a search -> its tree of terms, or a SearchError with the place and the right form."""

from __future__ import annotations

import functools
import re

from pipelines.search import compiler, fields
from pipelines.search.terms import Either, Every, Fault, Node, SearchError, Term

LONGEST = 20_000  # characters
MOST_TERMS, MOST_SCANS = 200, 40
_LINE_END = "\x1f"  # the grammar's comma for lines
_LINE = re.compile(
    r"""(?!-|(?:and|or|not)\b)(?:"(?:\\.|[^"\\])*"|(?:[^\s"(),]|\((?:\.|dot|at|@)\))+)\s*,?""", re.I
)


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Node:
    """Return the tree of the search. Raises SearchError."""
    if len(text) > LONGEST:
        raise SearchError(text, LONGEST, f"too long: use at most {LONGEST:,} characters")
    if not text.strip():
        return Every(parts=())
    from pipelines.search import tree  # noqa: PLC0415 most commands do without a parser

    try:
        node = tree.read(_with_lines_marked(text))
    except Fault as fault:
        raise SearchError(text, fault.place, fault.reason) from None
    if reason := _too_costly(node):
        raise SearchError(text, 0, reason)
    return node


def _too_costly(node: Node) -> str | None:
    """Return why the search would take a long time and slow down all others, or None."""
    terms, scans = compiler.cost(node)
    if scans > MOST_SCANS:
        return (
            f"{scans:,} words to find in every column, each by itself: use at most {MOST_SCANS}, "
            "write a list for any of several values: (ada, grace), or name the field: actor:ada"
        )
    if terms > MOST_TERMS:
        return f"{terms:,} terms: use at most {MOST_TERMS}, or write a list of values: actor:(a, b)"
    return None


def also(text: str, phrase: str, *, negated: bool = False) -> str:
    """Return the search for `text` that events must, or must not, contain a phrase as well."""
    escaped = phrase.replace("\\", "\\\\").replace('"', '\\"')
    added = f'{"-" if negated else ""}"{escaped}"'
    return both(text, added)


def both(text: str, added: str) -> str:
    """Return the search for events that match two searches; `added` stays as it is if it can."""
    if not text.strip():
        return added
    others = f"({on_one_line(added)})" if is_loose(added) else added
    return f"({on_one_line(text)}) {others}" if is_loose(text) else f"{text} {others}"


def on_one_line(text: str) -> str:
    """Return the same search with commas between values that were pasted line by line."""
    return re.sub(rf"{_LINE_END} *", ", ", _with_lines_marked(text)).strip()


def is_loose(text: str) -> bool:
    """Return True if a term after `text` would belong to a part of it only."""
    try:
        match parse(text):
            case Either():
                return True
            case Term(field=None, words=words):
                return len(words) > 1
    except SearchError:
        pass
    return False


def is_list(text: str) -> bool:
    """Return True if the whole of `text` is a list of values, by commas or lines."""
    match parse(text):
        case Term(field=None, words=words):
            return len(words) > 1
    return False


def _with_lines_marked(text: str) -> str:
    """Return `text` of the same length, a list of values if every line is a single one."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) < 2 or not all(_is_value(line) for line in lines):
        return text
    ended = re.sub(r",?[^\S\n]*\n\s*", lambda found: _LINE_END + " " * (len(found[0]) - 1), text)
    body = ended.strip(_LINE_END + " ,\t\r\n")
    return body.rjust(len(ended.rstrip(_LINE_END + " ,\t\r\n")))


def _is_value(line: str) -> bool:
    name = re.match(r"[^\W\d][\w.\-]*(?=[:=<>])", line)
    return bool(_LINE.fullmatch(line)) and not (name and fields.resolve(name[0]))
