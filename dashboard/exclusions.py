"""Which data files, and which columns of theirs, cannot contain the words of a search.

The filters of `text_index` rule out files, and the trigrams in `rollups` columns of the files left.
A file that neither knows, such as today's, may contain anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import polars as pl

from pipelines.lake import rollup, text_index
from pipelines.search import compiler
from pipelines.search.terms import Node, Word

ByFile = Mapping[int, frozenset[str]]
"""Per number of a data file in `rollups`, names of columns or fields."""
Nowhere = Mapping[Word | None, ByFile]
"""Per word, the columns that cannot contain it; for None, those without deceptive texts."""
_LOOKED_UP = 12
"""Words of a search whose trigrams are compared with each file's, at most."""
_FILTERED = 200
"""Words of a search that are looked up in the filters, at most."""


class Exclusions:
    """What `rollups` and `text_index` know about the data files of one version of `events`."""

    def __init__(self, rollups: pl.LazyFrame, index: pl.LazyFrame) -> None:
        self._rollups = rollups.filter(pl.col("part") == rollup.TEXTS)
        self._index = index.filter(pl.col("layout") == text_index.LAYOUT)

    def possible(self, files: pl.DataFrame, wanted: Node) -> pl.DataFrame:
        """Return those of the `files` (path, date, ...) that may have an event to be found."""
        absent = self._absent(files, list(islice(_plain(wanted), _FILTERED)))
        if not any(absent.values()):
            return files
        keys = [
            frozenset(word for word, paths in absent.items() if path in paths)
            for path in files["path"]
        ]
        vain = {
            key: compiler.in_vain(wanted, dict.fromkeys(key, compiler.EVERYWHERE))
            for key in {*keys}
        }
        return files.filter(pl.Series([not vain[key] for key in keys], dtype=pl.Boolean))

    def nowhere(self, files: pl.DataFrame, wanted: Node) -> Nowhere:
        """Return what the trigrams of the `files` (file, date, ...) tell about the words."""
        known = files.drop_nulls("file")
        if known.is_empty():
            return {}
        days = pl.col("date").is_between(known["date"].min(), known["date"].max())
        rows = self._rollups.filter(days)
        words = islice(compiler.free(wanted), _LOOKED_UP)
        return {
            **{word: _lacking(rows, word) for word in words},
            None: _undisguised(rows),
        }

    def _absent(self, files: pl.DataFrame, words: Sequence[Word]) -> dict[Word, Collection[str]]:
        """Return per word the paths of the files that cannot contain it."""
        found = {word: text_index.lookup(word.text) for word in words}
        lookups = {word: one for word, one in found.items() if one}
        if not lookups or files.is_empty():
            return {}
        columns = sorted({name for one in lookups.values() for name in one.columns})
        days = pl.col("date").is_between(files["date"].min(), files["date"].max())
        rows = self._index.filter(days).select("path", *columns).collect()
        paths = text_index.excluded(lookups.values(), rows)
        return {word: {*each} for word, each in zip(lookups, paths, strict=True)}


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
