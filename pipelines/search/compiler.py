"""A parsed search -> Polars expressions over the columns of `events`. Case is ignored.

A caller that knows where a word cannot occur passes it as `nowhere`: those columns are not read.
A text with deceptive characters is also found by its looks: `admin` finds it with a
character of no width inside. Only `field=value` compares the exact text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import polars as pl

from pipelines import visible
from pipelines.schemas import EVENTS
from pipelines.search import fields
from pipelines.search.fields import SEARCHED, TARGETS
from pipelines.search.people import PERSON
from pipelines.search.terms import Compared, Either, Every, Network, Node, Not, Term, Word

EVERYWHERE = frozenset((*SEARCHED, TARGETS))
Nowhere = Mapping[Word | None, Collection[str]]
"""Per word, the searched columns that are known not to contain it; for None, those that are known
to contain no deceptive character."""


def expressions(node: Node, nowhere: Nowhere | None = None) -> list[pl.Expr]:
    """Return expressions that an event has to match all of; none is null."""
    parts = node.parts if isinstance(node, Every) else (node,)
    return [_expression(part, nowhere or {}) for part in parts]


def free(node: Node) -> Iterator[Word]:
    """Yield the words to look for in every searched column."""
    match node:
        case Term(field=None, words=words):
            yield from (word for word in words if isinstance(word, Word))
        case Not(part=part):
            yield from free(part)
        case Every(parts=parts) | Either(parts=parts):
            for part in parts:
                yield from free(part)


def cost(node: Node) -> tuple[int, int]:
    """Return the number of terms, and how often every searched column is read for them."""
    match node:
        case Term(field=None, words=words):
            free_words = [word for word in words if isinstance(word, Word)]
            return 1, sum(1 for _ in _alike(free_words, {}))
        case Not(part=part):
            return cost(part)
        case Every(parts=parts) | Either(parts=parts):
            costs = [cost(part) for part in parts]
            return sum(terms for terms, _ in costs), sum(scans for _, scans in costs)
    return 1, 0


def in_vain(node: Node, nowhere: Nowhere) -> bool:
    """Return True if it is known that no event can match."""
    match node:
        case Term(field=None, words=words):
            return all(
                isinstance(word, Word) and {*nowhere.get(word, ())} >= EVERYWHERE for word in words
            )
        case Every(parts=parts):
            return any(in_vain(part, nowhere) for part in parts)
        case Either(parts=parts):
            return all(in_vain(part, nowhere) for part in parts)
    return False


def possible(node: Node, columns: Collection[str]) -> pl.Expr:
    """Return the condition on `columns` that every event meets that matches the search."""
    return _bounds(node, columns)[0]


def _bounds(node: Node, columns: Collection[str]) -> tuple[pl.Expr, pl.Expr]:
    """Return the conditions on `columns` that a match meets, and that make a match certain."""
    match node:
        case Not(part=part):
            met, certain = _bounds(part, columns)
            return certain.not_(), met.not_()
        case Every(parts=parts) | Either(parts=parts):
            both = [_bounds(part, columns) for part in parts]
            join = pl.all_horizontal if isinstance(node, Every) else pl.any_horizontal
            start = isinstance(node, Every)
            return (
                join(pl.lit(start), *(met for met, _ in both)),
                join(pl.lit(start), *(certain for _, certain in both)),
            )
        case Term(field=str(field)) if {*fields.columns(field)} <= {*columns}:
            found = _expression(node, {})
            return found, found
    return pl.lit(value=True), pl.lit(value=False)


def _expression(node: Node, nowhere: Nowhere) -> pl.Expr:
    match node:
        case Not(part=part):
            return _expression(part, nowhere).not_()
        case Every(parts=parts):
            return pl.all_horizontal(True, *(_expression(part, nowhere) for part in parts))
        case Either(parts=parts):
            return pl.any_horizontal(_expression(part, nowhere) for part in parts)
        case Compared():
            return _compared(node)
        case Term():
            # Null means no match; left null, a negated term would drop the event as well.
            return pl.any_horizontal(_matches(node, nowhere)).fill_null(False)


def _matches(term: Term, nowhere: Nowhere) -> Iterator[pl.Expr]:
    words = [word for word in term.words if isinstance(word, Word)]
    exact = nowhere.get(None, ())
    if not term.field:
        yield from (_contains(alike, absent, exact) for absent, alike in _alike(words, nowhere))
        return
    seen = _may_be_disguised(fields.columns(term.field), exact)
    yield from _of_value(term, fields.value(term.field), seen=seen)
    # An event has no target only if the first one is missing.
    named = tuple(word for word in term.words if not (isinstance(word, Word) and not word.text))
    if term.field == fields.TARGET and named:
        seen = TARGETS not in exact
        others = _of_value(replace(term, words=named), fields.of_target(), seen=seen)
        yield pl.col(TARGETS).list.eval(pl.any_horizontal(list(others))).list.any()


def _of_value(term: Term, value: pl.Expr, *, seen: bool) -> Iterator[pl.Expr]:
    """Yield conditions on a value; `seen`: also on the text that it looks like."""
    words = [word for word in term.words if isinstance(word, Word)]
    yield from (_within(value, one.network) for one in term.words if isinstance(one, Network))
    if term.exact:
        yield from (_is_exactly(value, word) for word in words)
        return
    for text in (value, visible.as_seen(value)) if seen else (value,):
        yield from _among(text, [word for word in words if not _is_presence(word)])
    yield from (_is(value, word) for word in words if _is_presence(word))


def _may_be_disguised(columns: Collection[str], exact: Collection[str]) -> bool:
    stored = (name for name in columns if name != PERSON)
    return not all(name in exact or not isinstance(EVENTS[name], pl.String) for name in stored)


def _among(value: pl.Expr, words: list[Word]) -> Iterator[pl.Expr]:
    plain = [word.text.lower() for word in words if _is_plain(word)]
    yield from (_is(value, word) for word in words if not _is_plain(word))
    if plain:
        lower = value.str.to_lowercase()
        yield lower == plain[0] if len(plain) == 1 else lower.is_in(plain)


def _compared(node: Compared) -> pl.Expr:
    time, moment = pl.col(node.field), pl.lit(node.moment)
    match node.sign:
        case "<":
            found = time < moment
        case "<=":
            found = time <= moment
        case ">":
            found = time > moment
        case ">=":
            found = time >= moment
    return found.fill_null(False)


def _is_plain(word: Word) -> bool:
    return bool(word.text) and (word.quoted or "*" not in word.text)


def _is_presence(word: Word) -> bool:
    """Return True for the words that match any value, or none."""
    return not word.text or (word.text == "*" and not word.quoted)


def _is(value: pl.Expr, word: Word) -> pl.Expr:
    match word:
        case Word(text=""):
            return value.is_null()
        case Word(text="*", quoted=False):
            return value.is_not_null()
    return value.str.contains(f"(?is)^{_pattern(word.text)}$")


def _is_exactly(value: pl.Expr, word: Word) -> pl.Expr:
    return value == word.text if word.text else value.is_null()


def _alike(
    words: list[Word], nowhere: Nowhere
) -> Iterator[tuple[Collection[str], tuple[str, ...] | Word]]:
    """Yield words with the columns that lack them; texts that one scan can look for are joined."""
    joined: dict[frozenset[str], list[str]] = {}
    for word in words:
        absent = frozenset(nowhere.get(word, ()))
        if _is_plain(word) and word.text.isascii():
            joined.setdefault(absent, []).append(word.text)
        else:
            yield absent, word
    yield from ((absent, tuple(texts)) for absent, texts in joined.items())


def _contains(
    wanted: tuple[str, ...] | Word, nowhere: Collection[str], exact: Collection[str]
) -> pl.Expr:
    read = [(pl.col(name), name in exact) for name in SEARCHED if name not in nowhere]
    found = [one for text, plain in read for one in _found(text, wanted, exact=plain)]
    if TARGETS not in nowhere:
        name = pl.element().struct.field("name")
        found += [
            pl.col(TARGETS).list.eval(one).list.any()
            for one in _found(name, wanted, exact=TARGETS in exact)
        ]
    return pl.any_horizontal(found or [pl.lit(False)])


def _found(text: pl.Expr, wanted: tuple[str, ...] | Word, *, exact: bool) -> Iterator[pl.Expr]:
    yield _holds(text, wanted)
    if not exact:
        yield _holds(visible.as_seen(text), wanted)


def _holds(text: pl.Expr, wanted: tuple[str, ...] | Word) -> pl.Expr:
    # ASCII needs no lower-cased copy of the whole column.
    if not isinstance(wanted, Word):
        return text.str.contains_any(list(wanted), ascii_case_insensitive=True)
    if "*" in wanted.text and not wanted.quoted:
        return text.str.contains(f"(?is){_pattern(wanted.text)}")
    return text.str.to_lowercase().str.contains(wanted.text.lower(), literal=True)


def _pattern(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))


def _within(value: pl.Expr, network: IPv4Network | IPv6Network) -> pl.Expr:
    if isinstance(network, IPv4Network):
        return value.str.contains(_v4_pattern(network))
    return _v6_digits(value).str.contains(_v6_pattern(network))


def _v4_pattern(network: IPv4Network) -> str:
    """Return the pattern of the addresses in dotted form."""
    whole, bits = divmod(network.prefixlen, 8)
    octets = [str(octet) for octet in network.network_address.packed[:whole]]
    if bits:
        first = network.network_address.packed[whole]
        octets.append(f"(?:{'|'.join(str(first + n) for n in range(1 << 8 - bits))})")
    octets += [r"\d{1,3}"] * (4 - len(octets))
    return "^" + r"\.".join(octets) + "$"


def _v6_digits(value: pl.Expr) -> pl.Expr:
    """Return IPv6 addresses as 32 hexadecimal digits; null for anything else."""
    address = pl.when(value.str.contains(r"^[0-9a-f:]*:[0-9a-f:]*$")).then(value)
    halves = address.str.split_exact("::", 1)
    left, right = (
        halves.struct.field(half)
        .fill_null("")
        .str.extract_all("[0-9a-f]+")
        .list.eval(pl.element().str.zfill(4))
        .list.join("")
        for half in ("field_0", "field_1")
    )
    missing = 32 - left.str.len_bytes().cast(pl.Int64) - right.str.len_bytes().cast(pl.Int64)
    zeros = pl.lit("0" * 32).str.slice(0, missing.clip(0, 32))
    return pl.when(address.is_not_null()).then(pl.concat_str(left, zeros, right))


def _v6_pattern(network: IPv6Network) -> str:
    digits, bits = divmod(network.prefixlen, 4)
    whole = network.network_address.exploded.replace(":", "")
    if not bits:
        return f"^{whole[:digits]}"
    first = int(whole[digits], 16)
    last = "".join(f"{first + n:x}" for n in range(1 << 4 - bits))
    return f"^{whole[:digits]}[{last}]"
