"""The query language of the search box: text -> terms -> Polars expressions.

`field:value`, `-field:value`, `field:a,b` (either), `field:wild*card`, `field:*` (any value),
`field:""` (no value), `"a phrase"` and free text; all terms must match, case is ignored. A word
whose part before a colon is not a field is searched for unchanged, so that an ARN, an IPv6 address
or a URL can be pasted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from dashboard import fields
from pipelines.lake.rollup import SEARCHED, TARGETS

# A quote that is never closed extends to the end of the text.
_TERM = re.compile(
    r'(?P<minus>-?)(?:(?P<field>[A-Za-z_]\w*):)?(?P<rest>(?:"(?:\\.|[^"\\])*(?:"|\\?$)|[^\s"])+)',
    re.DOTALL,
)
_WORD = re.compile(r'"(?P<quoted>(?:\\.|[^"\\])*)(?:"|\\?$)|(?P<bare>[^,"]+)', re.DOTALL)
EVERYWHERE = frozenset((*SEARCHED, TARGETS))
Nowhere = Mapping["Word", Collection[str]]
"""Per word, the searched columns that are known not to contain it."""
_SCHEMES = {"arn", "http", "https", "urn", "mailto"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    text: str
    quoted: bool = False  # a quoted word has no wildcards


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    words: tuple[Word, ...]
    field: str | None = None  # None: free text, in every searched column
    negated: bool = False


def parse(text: str) -> tuple[Term, ...]:
    """Return the terms of `text`. Never fails: anything else is free text."""
    return tuple(term for found in _TERM.finditer(text) for term in _terms(found))


def expressions(terms: Iterable[Term], nowhere: Nowhere | None = None) -> list[pl.Expr]:
    """Return one expression per term; an event has to match all of them."""
    return [_matches(term, nowhere or {}) for term in terms]


def free(terms: Iterable[Term]) -> list[Word]:
    """Return the words to look for in every searched column."""
    return [word for term in terms if term.field is None for word in term.words]


def in_vain(terms: Iterable[Term], nowhere: Nowhere) -> bool:
    """Return True if some required word cannot occur in any searched column."""
    wanted = [term for term in terms if term.field is None and not term.negated]
    return any(
        all({*nowhere.get(word, ())} >= EVERYWHERE for word in term.words) for term in wanted
    )


def show(terms: Iterable[Term]) -> str:
    """Return text that parses to `terms`."""
    return " ".join(_show(term) for term in terms)


def unknown_fields(text: str) -> list[str]:
    """Return the names before a colon that are neither a field nor a URL scheme: likely typos."""
    names = [found["field"] for found in _TERM.finditer(text) if found["field"]]
    return [name for name in names if not fields.resolve(name) and name.lower() not in _SCHEMES]


def _terms(found: re.Match[str]) -> list[Term]:
    negated = bool(found["minus"])
    field = fields.resolve(found["field"] or "")
    if field:
        words = tuple(_word(part) for part in _WORD.finditer(found["rest"]))
        return [Term(field=field, words=words, negated=negated)] if words else []
    # An unknown field: the word is plain text, colon included.
    if found["field"]:
        text = f"{found['field']}:{found['rest']}".replace('"', "")
        return [Term(words=(Word(text=text),), negated=negated)]
    return _free(found["rest"], negated=negated)


def _free(text: str, *, negated: bool) -> list[Term]:
    if '"' not in text:
        return [Term(words=(Word(text=text),), negated=negated)]
    words = [_word(part) for part in _WORD.finditer(text)]
    return [Term(words=(word,), negated=negated) for word in words if word.text]


def _word(found: re.Match[str]) -> Word:
    if found["quoted"] is None:
        return Word(text=found["bare"])
    return Word(text=re.sub(r"\\(.)", r"\1", found["quoted"], flags=re.DOTALL), quoted=True)


def _show(term: Term) -> str:
    field = f"{term.field}:" if term.field else ""
    return ("-" if term.negated else "") + field + ",".join(_show_word(word) for word in term.words)


def _show_word(word: Word) -> str:
    if not word.quoted:
        return word.text
    escaped = word.text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _matches(term: Term, nowhere: Nowhere) -> pl.Expr:
    found = [
        _is(term.field, word) if term.field else _contains(word, nowhere.get(word, ()))
        for word in term.words
    ]
    # Null means no match; left null, a negated term would drop the event as well.
    matched = pl.any_horizontal(found).fill_null(False)
    return matched.not_() if term.negated else matched


def _is(field: str, word: Word) -> pl.Expr:
    value = fields.value(field)
    match word:
        case Word(text=""):
            return value.is_null()
        case Word(text="*", quoted=False):
            return value.is_not_null()
        case Word(quoted=False) if "*" in word.text:
            return value.str.contains(f"(?is)^{_pattern(word.text)}$")
    return value.str.to_lowercase() == word.text.lower()


def _contains(word: Word, nowhere: Collection[str]) -> pl.Expr:
    found = [_holds(pl.col(name), word) for name in SEARCHED if name not in nowhere]
    if TARGETS not in nowhere:
        name = pl.element().struct.field("name")
        found.append(pl.col(TARGETS).list.eval(_holds(name, word)).list.any())
    return pl.any_horizontal(found or [pl.lit(False)])


def _holds(text: pl.Expr, word: Word) -> pl.Expr:
    if "*" in word.text and not word.quoted:
        return text.str.contains(f"(?is){_pattern(word.text)}")
    # ASCII needs no lower-cased copy of the whole column.
    if word.text.isascii():
        return text.str.contains_any([word.text], ascii_case_insensitive=True)
    return text.str.to_lowercase().str.contains(word.text.lower(), literal=True)


def _pattern(text: str) -> str:
    return ".*".join(re.escape(part) for part in text.split("*"))
