"""Text from outside, as a person can judge it: what is invisible or imitates Latin is marked.

Events, answers of vendors and names in a lake are written by others, who may hide characters in
them, reverse their order, forge a line of output or pass Cyrillic letters off as Latin ones. The
tables themselves stay exact; this is for display, and for searches by looks.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable

import polars as pl

# Characters that end a line or a cell, and the control, format, private-use and default-ignorable
# ones (UCD 15), with the blank letters of Braille and Hangul.
_BREAKS = "\t-\r\x1c-\x1f\x85\u2028\u2029"
_HIDDEN = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891"
    "\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800"
    "\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff"
)
# Spaces that look like the common one; the wide U+3000 is part of Japanese names.
_SPACES = "\xa0\u1680\u2000-\u200a\u202f\u205f"
_SURROGATES = "\ud800-\udfff"
# Letters as Unicode's confusables.txt pairs them, only where fonts hardly differ.
_PAIRS = (
    ("аАВеЕѕЅіІјЈКкМНоОрРсСТуУхХԁԛԚԝԜһӏӀѵѴүҮ", "aABeEsSiIjJKkMHoOpPcCTyYxXdqQwWhlIvVyY"),
    ("αΑΒΕΖΗιΙκΚΜνΝοΟρΡΤυΥΧχγϲϹϳ", "aABEZHiIkKMvNoOpPTuYXxycCj"),
    ("օՕսՍհոզցԼՏ", "oOuUhnqgLS"),
    ("ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ", "ABCDEGHJKLMPRSTVWZ"),
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "ABCDEFGHIJKLMNOPRSTUVWXYZ"),
)
_FOREIGN = {one: latin for ones, latins in _PAIRS for one, latin in zip(ones, latins, strict=True)}
# Symbols made of Latin letters, such as mathematical bold and Roman numerals.
_SYMBOLS = {
    char: plain
    for char in map(chr, (0x251, 0x261, *range(0x2100, 0x2180), *range(0x1D400, 0x1D800)))
    if (plain := {"\u0251": "a", "\u0261": "g"}.get(char) or unicodedata.normalize("NFKC", char))
    and re.fullmatch("[A-Za-z0-9]", plain)
}
_LOOK, _SIGN = "".join(_FOREIGN), "".join(_SYMBOLS)
# Cyrillic next to Latin within a word, or in an address; a Cyrillic name alone imitates nothing.
_MIXED = (
    rf"[A-Za-z][\w\p{{N}}]*[{_LOOK}]|[{_LOOK}][\w\p{{N}}]*[A-Za-z]"
    rf"|[{_LOOK}][@.][A-Za-z]|[A-Za-z][@.][{_LOOK}]"
)
SUSPECT = f"[{_BREAKS}{_HIDDEN}{_SPACES}{_SIGN}]|{_MIXED}"
"""A regular expression of Polars that finds every text which `text` changes."""

_ODD = re.compile(f"[{_BREAKS}{_HIDDEN}{_SPACES}{_SIGN}{_SURROGATES}]")
_WORD = re.compile(rf"[\w{_HIDDEN}]*[{_LOOK}][\w{_HIDDEN}]*")
_LOOKS = re.compile(f"[{_LOOK}]")
_OTHERS = re.compile(rf"[^{_LOOK}\d_{_HIDDEN}]")
_IN_ADDRESS = re.compile("[A-Za-z][@.]$"), re.compile("[@.][A-Za-z]")
_CONTROL = "[\x00-\x1f\x7f]"
_IMITATED = {**_FOREIGN, **_SYMBOLS}


def text(given: str, keep: str = "") -> str:
    """Return `given` with a mark such as [U+202E] for each deceptive character, except `keep`."""
    if given.isascii() and given.isprintable():
        return given
    marked = _WORD.sub(_marked_word, given)
    return _ODD.sub(lambda found: found[0] if found[0] in keep else _mark(found), marked)


def json_text(given: str) -> str:
    r"""Return JSON with the deceptive characters in its strings as escapes: \u202e.

    The value stays the same. Line ends between documents are kept.
    """
    if given.isascii() and "\x7f" not in given:
        return given
    return _ODD.sub(_escape, _WORD.sub(lambda word: _marked_word(word, _escape), given))


def frame(rows: pl.DataFrame, keep: str = "") -> pl.DataFrame:
    """Return rows with all texts as `text` returns them, those in lists too."""
    texts = [column for column in rows if column.dtype == pl.String]
    lists = [column for column in rows if column.dtype == pl.List(pl.String)]
    # One look at the texts of all columns costs less than one at those of each.
    if texts and _odd_rows(pl.concat(texts)) is None:
        texts = []
    return rows.with_columns(_shown(column, keep) for column in (*texts, *lists))


def as_seen(texts: pl.Expr) -> pl.Expr:
    """Return texts that hold deceptive characters as a person reads them; null for all others."""
    return texts.map_batches(seen, return_dtype=pl.String, is_elementwise=True)


def seen(texts: pl.Series) -> pl.Series:
    """Return a series as `as_seen` does."""
    nothing = texts.clear(len(texts))
    odd = _odd_rows(texts)
    if odd is None:
        return nothing
    places = odd.arg_true()
    chosen = texts.gather(places)
    suspect = chosen.str.contains(SUSPECT)
    if not suspect.any():
        return nothing
    return nothing.scatter(places.filter(suspect), _plain(chosen.filter(suspect)))


def _odd_rows(texts: pl.Series) -> pl.Series | None:
    """Return which texts hold anything but printable ASCII; None if none does, which is quick."""
    import numpy as np  # noqa: PLC0415 slow to import, and few commands show texts

    data = texts.to_arrow().cast("large_string").buffers()[2]
    held = np.frombuffer(data or b"", np.uint8)
    # Two passes over the bytes cost a tenth of one regular expression over the texts.
    if not held.size or (held.min() >= 0x20 and held.max() < 0x7F):
        return None
    odd = texts.str.len_bytes() > texts.str.len_chars()
    if held.min() < 0x20 or (held == 0x7F).any():
        odd |= texts.str.contains(_CONTROL)
    return odd.fill_null(False)


def _plain(texts: pl.Series) -> pl.Series:
    spaced = texts.str.replace_all(f"[{_BREAKS}{_SPACES}]", " ")
    return spaced.str.replace_all(f"[{_HIDDEN}]", "").str.replace_many(
        list(_IMITATED), list(_IMITATED.values())
    )


def _shown(column: pl.Series, keep: str) -> pl.Series:
    if column.dtype == pl.List(pl.String):
        return column.list.eval(pl.element().map_batches(lambda texts: _shown(texts, keep)))
    odd = column.filter(seen(column).is_not_null()).unique().to_list()
    return column.replace(odd, [text(value, keep) for value in odd]) if odd else column


def _marked_word(found: re.Match[str], mark: Callable[[re.Match[str]], str] | None = None) -> str:
    """Return a word with marks for its foreign letters if it passes them off as Latin."""
    word, whole = found[0], found.string
    mixed = re.search("[A-Za-z]", word)
    imitates = not _OTHERS.search(word) and (
        _IN_ADDRESS[0].search(whole, max(0, found.start() - 2), found.start())
        or _IN_ADDRESS[1].match(whole, found.end())
    )
    return _LOOKS.sub(mark or _mark, word) if mixed or imitates else word


def _mark(found: re.Match[str]) -> str:
    return f"[U+{ord(found[0]):04X}]"


def _escape(found: re.Match[str]) -> str:
    # Outside of strings, JSON has no other white space than these.
    return found[0] if found[0] in "\n\r\t" else json.dumps(found[0])[1:-1]
