"""Which data files, and which columns of theirs, cannot contain the words of a search.

The filters of `text_index` rule out files, and the trigrams in `rollups` columns of the files left.
A file that neither knows, such as today's, may contain anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import polars as pl

from pipelines.lake import rollup, text_index
from pipelines.search import compiler
from pipelines.search.terms import Node, Word

ByFile = Mapping[int, frozenset[str]]
"""Per number of a data file in `rollups`, names of columns or fields."""
Nowhere = Mapping[Word | None, ByFile]
"""Per word, the columns that cannot contain it; for None, those without deceptive texts."""
_ByPath = Mapping[str, frozenset[str]]
_NOTHING = frozenset[str]()
_LOOKED_UP = 12
"""Words of a search whose trigrams are compared with each file's, at most."""
_FILTERED = 200
"""Words of a search that are looked up in the filters, at most."""


class Exclusions:
    """Facts of `rollups` and `text_index` about the data files of one version of `events`."""

    def __init__(self, rollups: pl.LazyFrame, index: pl.LazyFrame) -> None:
        self._rollups = rollups.filter(pl.col("part") == rollup.TEXTS)
        self._index = index.filter(pl.col("layout") == text_index.LAYOUT)

    def known(self, files: pl.DataFrame, wanted: Node) -> tuple[pl.DataFrame, Nowhere]:
        """Return the `files` (path, date, file, ...) that may have an event to be found.

        With them, the knowledge about the words in those files.
        """
        words = list(islice(_plain(wanted), _FILTERED))
        absent = dict(zip(words, self._absent(files, words), strict=True))
        left = _possible(files, wanted, absent)
        return left, self._nowhere(left, wanted, absent)

    def _absent(self, files: pl.DataFrame, words: Sequence[Word]) -> Iterator[_ByPath]:
        """Yield for each word the columns that cannot have it, by the path of a file."""
        found = [text_index.lookup(word.text) for word in words]
        lookups = [one for one in found if one]
        columns = sorted({name for one in lookups for name in one.columns})
        rows = self._index.filter(_days(files)).select("path", *columns)
        # Most searches of a short word need no look at the table.
        held = rows.collect() if lookups and files.height else rows.clear().collect()
        known = text_index.lacking(lookups, held)
        return (next(known) if one else {} for one in found)

    def _nowhere(
        self, files: pl.DataFrame, wanted: Node, absent: Mapping[Word, _ByPath]
    ) -> Nowhere:
        numbers = dict(files.select("path", "file").drop_nulls().iter_rows())
        if not numbers:
            return {}
        rows = self._rollups.filter(_days(files))
        words = list(dict.fromkeys(islice(compiler.free(wanted), _LOOKED_UP)))
        known: dict[Word | None, ByFile] = {None: _undisguised(rows)}
        for word in {**dict.fromkeys(words), **absent}:
            grams = _lacking(rows, word) if word in words else {}
            paths = absent.get(word, {})
            known[word] = {
                file: grams.get(file, _NOTHING) | paths.get(path, _NOTHING)
                for path, file in numbers.items()
            }
        return known


def _possible(files: pl.DataFrame, wanted: Node, absent: Mapping[Word, _ByPath]) -> pl.DataFrame:
    keys = [
        frozenset(word for word, paths in absent.items() if paths.get(path) == compiler.EVERYWHERE)
        for path in files["path"]
    ]
    vain = {
        key: compiler.in_vain(wanted, dict.fromkeys(key, compiler.EVERYWHERE)) for key in {*keys}
    }
    return files.filter(pl.Series([not vain[key] for key in keys], dtype=pl.Boolean))


def _days(files: pl.DataFrame) -> pl.Expr:
    return pl.col("date").is_between(files["date"].min(), files["date"].max())


def _plain(wanted: Node) -> Iterator[Word]:
    """Yield the words without wildcards, each once."""
    words = dict.fromkeys(compiler.free(wanted))
    return (word for word in words if word.quoted or "*" not in word.text)


def _lacking(rows: pl.LazyFrame, word: Word) -> ByFile:
    """Return per file the columns that cannot contain `word`, by their sets of trigrams."""
    # Wildcards, short words and non-ASCII text have no trigrams: nothing can be ruled out.
    grams = () if "*" in word.text and not word.quoted else sorted(rollup.grams(word.text))
    if not grams:
        return {}
    # A column with too many trigrams has null, which rules nothing out.
    lacking = pl.any_horizontal(
        pl.col("grams").str.contains(gram, literal=True).not_() for gram in grams
    )
    found = (
        rows.filter(lacking, pl.col("field") != rollup.DISGUISED)
        .group_by("file")
        .agg("field")
        # The trigrams of an earlier release cover texts as they are, not as they look.
        .join(rows.filter(pl.col("field") == rollup.DISGUISED), on="file", how="semi")
        .collect(engine="streaming")
    )
    return {file: frozenset(names) for file, names in found.iter_rows()}


def _undisguised(rows: pl.LazyFrame) -> ByFile:
    """Return per file the columns without deceptive texts."""
    found = rows.filter(pl.col("field") == rollup.DISGUISED).select("file", "grams").collect()
    return {
        file: compiler.EVERYWHERE.difference(rollup.disguised(held))
        for file, held in found.iter_rows()
    }
