"""A search as the terms that an event has to match all of, each of them text: to edit one alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.search import parser
from pipelines.search.terms import Every, Node, Not, SearchError, Term, Word


def split(text: str) -> list[str]:
    """Return the texts of the terms; one for alternatives or a list. Raises SearchError."""
    parser.parse(text)
    text = parser.on_one_line(text)
    if not text or parser.is_list(text):
        return [text] if text else []
    from pipelines.search import tree  # noqa: PLC0415 most commands do without a parser

    found = [text[start:end].strip() for start, end in tree.spans(text)]
    return [_alone(piece) for piece in found] if len(found) > 1 else found


def joined(pieces: Sequence[str]) -> str:
    """Return the search for events that match all of the pieces."""
    if len(pieces) == 1:
        return pieces[0]
    return " ".join(f"({piece})" if parser.is_loose(piece) else piece for piece in pieces)


def replaced(text: str, place: int, *piece: str) -> str:
    """Return the search with another piece, or none, instead of the one at `place`."""
    pieces = split(text)
    return joined([*pieces[:place], *piece, *pieces[place + 1 :]])


def inverted(piece: str) -> str:
    """Return the piece that finds exactly the other events."""
    node = _parsed(piece)
    if node is None:
        return piece
    wanted = node.part if isinstance(node, Not) else Not(part=node)
    plain = re.sub(r"^(?:-|not(?=[\s(\"])\s*)", "", piece, flags=re.IGNORECASE)
    # Two minus signs are not one: each form has to parse to the opposite.
    forms = (plain, plain.removeprefix("(").removesuffix(")"), f"-{piece}")
    return next((form for form in forms[::-1] if _parsed(form) == wanted), f"-({piece})")


def _alone(piece: str) -> str:
    """Return a piece of several with the same meaning on its own."""
    match parser.parse(f"x {piece}"):
        # Among others, addresses with commas are one word; alone, they would be a list.
        case Every(parts=(_, Term(field=None, words=(Word(text=text, quoted=False),)))):
            return f'"{text}"' if parser.is_list(piece) else piece
    return piece


def _parsed(piece: str) -> Node | None:
    try:
        return parser.parse(piece)
    except SearchError:
        return None
