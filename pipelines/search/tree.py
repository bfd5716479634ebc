"""The grammar's rules: tokens of grammar.lark -> terms, with the checks that a grammar cannot make.

Only this module needs lark, whose import takes longer than that of all others here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, ClassVar, cast

from lark import Lark, Token, Transformer, Tree
from lark.exceptions import UnexpectedInput

from pipelines.search import fields
from pipelines.search.terms import (
    Compared,
    Either,
    Every,
    Fault,
    Network,
    Node,
    Not,
    Sign,
    Term,
    Word,
    depth,
)

MOST_WORDS = 1_000
DEEPEST = 20
_GRAMMAR = Path(__file__).with_name("grammar.lark")
_MAIL_OR_HASH = re.compile(r"[^@\s]+@[^@\s]+|[0-9a-f]{32,}", re.IGNORECASE)
_DOT = re.compile(r"[\[({](?:\.|dot)[\])}]", re.IGNORECASE)
_AT = re.compile(r"[\[({](?:@|at)[\])}]", re.IGNORECASE)
_COLON = re.compile(r"\[(:(?://)?)\]")
_SCHEME = re.compile(r"^hxxp(?=s?://)", re.IGNORECASE)
_UNCLOSED = "the quote is never closed: add the closing quote"
_NO_TERM = 'a term is missing: write a word, a "phrase" or field:value'
_TWO_SIDES = "needs a term on each side; as text, put it in quotes"
_JOINED = "two terms without a space: separate them, or put quotes around the whole text"
_VALUES_ONLY = (
    "a list holds values only: write field:(a, b) or -field:(a, b), or put the value in quotes"
)
_NO_VALUE = 'a value is missing: write field:value, field:* (any value) or field:"" (no value)'


def read(text: str) -> Node:
    """Return the tree of the search. Raises Fault."""
    try:
        return cast(Node, _lark().parse(text))
    except UnexpectedInput as error:
        raise Fault(*_unexpected(text, error)) from None


@functools.cache
def _lark() -> Lark:
    # With a transformer, no tree is walked after the parse: brackets may be deep.
    return Lark(_GRAMMAR.read_text(), parser="lalr", transformer=_Tree(), postlex=_Adjacency())


def spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each term that an event has to match, of a text that parses."""
    outline: Any = _outline().parse(text)
    (parts,) = outline.children
    (either, *others) = parts.children
    if others or len(either.children) > 1:
        return [(0, len(text))]
    terms = (one for one in either.children[0].children if isinstance(one, Tree))
    return [(one.meta.start_pos, one.meta.end_pos) for one in terms]


@functools.cache
def _outline() -> Lark:
    return Lark(_GRAMMAR.read_text(), parser="lalr", postlex=_Adjacency(), propagate_positions=True)


class _Adjacency:
    """Checks between lexer and parser: the number of words, and terms without a space between."""

    always_accept = ()
    _ENDS: ClassVar = {"WORD", "VALUE", "ITEM", "PHRASE", "MOMENT", "RPAR"}
    _STARTS: ClassVar = {"WORD", "VALUE", "ITEM", "PHRASE", "FIELD", "COMPARE", "LPAR", "MINUS"}
    _WORDS: ClassVar = {"WORD", "VALUE", "ITEM", "PHRASE"}

    def process(self, tokens: Iterator[Token]) -> Iterator[Token]:
        end, words = None, 0
        for token in tokens:
            start = token.start_pos or 0
            if start == end and token.type in self._STARTS:
                raise Fault(start, _JOINED)
            words += token.type in self._WORDS
            if words > MOST_WORDS:
                raise Fault(start, f"too many words: use at most {MOST_WORDS:,}")
            end = token.end_pos if token.type in self._ENDS else None
            yield token


class _Tree(Transformer[Token, Node]):
    """The rules of the grammar, each called with its parsed children."""

    @staticmethod
    def start(children: list[Any]) -> Node:
        if not children:
            return Every(parts=())
        pieces = _pieces(children[0])
        listed = len(pieces) > 1 and all(_is_indicator(piece.text) for piece in pieces)
        return Term(words=tuple(pieces)) if listed else cast(Node, children[0])

    @staticmethod
    def parts(children: list[Any]) -> Node:
        nodes, commas = children[::2], children[1::2]
        if not commas:
            return cast(Node, nodes[0])
        if not all(isinstance(node, Term) and node.field is None for node in nodes):
            raise Fault(
                commas[0].start_pos,
                "a comma separates single values: use AND or OR, or put quotes around the text",
            )
        return Term(words=tuple(word for node in nodes for word in _pieces(node) or node.words))

    @staticmethod
    def either(children: list[Any]) -> Node:
        nodes = tuple(children[::2])
        return nodes[0] if len(nodes) == 1 else Either(parts=nodes)

    @staticmethod
    def every(children: list[Any]) -> Node:
        nodes = tuple(node for node in children if not isinstance(node, Token))
        return nodes[0] if len(nodes) == 1 else Every(parts=nodes)

    @staticmethod
    def negated(children: list[Any]) -> Node:
        return _not_too_deep(Not(part=children[1]), children[0])

    @staticmethod
    def group(children: list[Any]) -> Node:
        inner: Node = children[1]
        pieces = _pieces(inner)
        return Term(words=tuple(pieces)) if pieces else _not_too_deep(inner, children[0])

    @staticmethod
    def free(children: list[Any]) -> Node:
        (token,) = children
        word = _word(token)
        if not word.text:
            raise Fault(token.start_pos, 'an empty phrase: field:"" finds events without a value')
        if not word.quoted and re.search(r"[:=]$", word.text) and fields.resolve(word.text[:-1]):
            raise Fault(token.end_pos, _NO_VALUE)
        return Term(words=(word,))

    @staticmethod
    def field(children: list[Any]) -> Node:
        token, values = children
        name, exact = token.rstrip()[:-1].rstrip(), token.rstrip().endswith("=")
        field = _field(name, token)
        return Term(
            field=field,
            words=tuple(_value(field, value, exact=exact) for value in values),
            exact=exact,
        )

    @staticmethod
    def values(children: list[Any]) -> list[Token]:
        return [token for token in children if token.type in ("VALUE", "ITEM", "PHRASE")]

    @staticmethod
    def listed(children: list[Any]) -> list[Token]:
        found = _Tree.values(children)
        for token in found:
            if token.type == "ITEM":
                _check_listed(token)
        return found

    @staticmethod
    def compared(children: list[Any]) -> Node:
        token, moment = children
        name = token.rstrip("<>= \t\r\n")
        if name.lower() not in fields.TIMES:
            _field(name, token)
            raise Fault(
                token.start_pos,
                f"only times are compared ({' and '.join(fields.TIMES)}): use {name}:value, "
                "or put quotes around the text",
            )
        sign = cast(Sign, token[len(name) :].strip())
        return Compared(field=name.lower(), sign=sign, moment=_moment(moment))


def _unexpected(text: str, error: UnexpectedInput) -> tuple[int, str]:
    """Return the place and the reason for a text that the grammar does not allow."""
    token: Token | None = getattr(error, "token", None)
    if token is None:
        return error.pos_in_stream or 0, _UNCLOSED
    place = len(text.rstrip()) if token.type == "$END" else token.start_pos or 0
    return place, _reason(token.type, getattr(error, "expected", ()))


def _reason(found: str, expected: Collection[str]) -> str:
    if "WORD" in expected:
        operator = {"AND": "AND", "OR": "OR", "COMMA": "a comma"}.get(found)
        return f"{operator} {_TWO_SIDES}" if operator else _NO_TERM
    if "VALUE" in expected:
        return _NO_VALUE
    if found == "$END" and "RPAR" in expected:
        return "a bracket is never closed: add )"
    if found == "RPAR" and "ITEM" not in expected:
        return "a bracket that was never opened: remove it, or put quotes around it"
    return _VALUES_ONLY if "ITEM" in expected else _NO_TERM


def _not_too_deep(node: Node, token: Token) -> Node:
    if depth(node) > DEEPEST:
        raise Fault(token.start_pos or 0, f"nested too deeply: use at most {DEEPEST} levels")
    return node


def _pieces(node: Node) -> list[Word]:
    """Return the values of a single word with commas; nothing for any other term."""
    match node:
        case Term(field=None, words=(Word(quoted=False, text=text),)) if "," in text:
            return [Word(text=_refanged(piece)) for piece in text.split(",") if piece]
    return []


def _is_indicator(text: str) -> bool:
    """Return True for addresses, networks, e-mail addresses and hashes, as reports list them."""
    if _MAIL_OR_HASH.fullmatch(text):
        return True
    try:
        return bool(ip_network(text, strict=False))
    except ValueError:
        return False


def _word(token: Token) -> Word:
    if token.type == "PHRASE":
        text = re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
        return Word(text=text, quoted=True)
    return Word(text=_refanged(token))


def _refanged(text: str) -> str:
    """Return an address as it is, from a form that nobody can click: 203[.]0[.]113[.]67."""
    return _SCHEME.sub("http", _AT.sub("@", _DOT.sub(".", _COLON.sub(r"\1", text))))


def _field(name: str, token: Token) -> str:
    found = fields.resolve(name)
    if found:
        return found
    place = token.start_pos or 0
    if name.lower() in fields.TIMES:
        raise Fault(
            place, f"times are compared: use {name}>=2026-11-17 or {name}<2026-11-18T08:00Z"
        )
    nearest = fields.nearest(name)
    advice = f"use {nearest}, or put" if nearest else "put"
    raise Fault(place, f"unknown field {name!r}: {advice} quotes around the text to search for it")


def _value(field: str, token: Token, *, exact: bool) -> Word | Network:
    word = _word(token)
    if field != "source_ip" or word.quoted or exact:
        return word
    if "/" not in word.text:
        return _address(word)
    try:
        return Network(network=ip_network(word.text, strict=False))
    except ValueError:
        reason = f"not a network: {word.text}: use one such as 203.0.113.0/24 or 2001:db8::/32"
        raise Fault(token.start_pos or 0, reason) from None


def _address(word: Word) -> Word:
    """Return the address in the form that the lake has."""
    try:
        return Word(text=str(ip_address(word.text)))
    except ValueError:
        return word


def _check_listed(token: Token) -> None:
    """Refuse operators in a list of values, which could be taken for values."""
    name = re.match(r"[^\W\d]\w*(?=[:=<>])", token)
    if token[0] == "-" or (name and fields.resolve(name[0])):
        raise Fault(token.start_pos or 0, _VALUES_ONLY)


def _moment(token: Token) -> datetime:
    text = _word(token).text
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        reason = f"not a time: {text}: use one such as 2026-11-17 or 2026-11-17T08:00Z"
        raise Fault(token.start_pos or 0, reason) from None
