"""Counts of chosen events from `rollups`, without reading the values of the events.

The codes of a data file's rows (pipelines.lake.row_codes) show in which group of a part each row is
counted. So the rows that a text search found, or those of filtered groups, are counted by number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.lake import rollup, row_codes

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.int64]]

Of = Callable[[str, list[int]], pl.LazyFrame]
"""Returns the rows of a part of `rollups` that belong to these files."""
Filters = Mapping[str, Sequence[pl.Expr]]
"""Conditions on the groups of some parts."""
_FEW = 8
"""If there are so many times more groups than rows, only the groups of those are read."""
_CODES = 2**32
"""More than the groups of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Groups:
    """The groups of one part in some files, numbered across them."""

    codes: Mapping[int, bytes]
    """Per file, the packed codes of its rows."""
    first: Numbers
    """Per number of a file, counted from the lowest, the place of its first group."""
    lowest: int
    count: int

    def places(self, groups: pl.DataFrame) -> Numbers:
        """Return the places of groups (file, code)."""
        numbers = groups["file"].to_numpy() - self.lowest
        places: Numbers = self.first[numbers] + groups["code"].to_numpy()
        return places

    def codes_at(self, file: int, places: Numbers) -> Numbers:
        """Return the codes of the groups of a file at these places."""
        codes: Numbers = places - self.first[file - self.lowest]
        return codes

    def of_rows(self, file: int, rows: int, chosen: Numbers | None) -> Numbers:
        """Return the places of the groups of rows of a file, of all if none are chosen."""
        codes = row_codes.unpacked(self.codes[file], rows, chosen)
        return codes + int(self.first[file - self.lowest])


def counted(
    of: Of,
    files: Mapping[int, int],
    parts: Sequence[str],
    filters: Filters,
    found: pl.Series | None,
) -> dict[str, pl.DataFrame]:
    """Return date, columns and number `n` of each group of these parts, of the chosen rows alone.

    `files` has the numbers of rows by file. Chosen are the rows `found`, numbered across the files
    in this order (None: all), whose groups meet the `filters`.
    """
    import numpy as np  # noqa: PLC0415 slow to import, and most pages need none

    groups = _groups(of, [*files], {*parts, *filters})
    chosen: dict[int, Numbers | None] = dict.fromkeys(files)
    if found is not None:
        stops = np.cumsum([*files.values()])
        rows = np.sort(found.to_numpy().astype(np.int64))
        split = np.split(rows, np.searchsorted(rows, stops[:-1]))
        chosen = {
            file: each - (stop - files[file])
            for file, each, stop in zip(files, split, stops, strict=True)
        }
    for part, conditions in filters.items():
        met = of(part, [*files]).filter(*conditions).select("file", "code")
        wanted = np.zeros(groups[part].count, bool)
        wanted[groups[part].places(met.collect(engine="streaming"))] = True
        for file, before in chosen.items():
            kept = np.flatnonzero(wanted[groups[part].of_rows(file, files[file], before)])
            chosen[file] = kept if before is None else before[kept]
    return {
        part: _summed(
            of(part, [*files]).filter(*filters.get(part, ())), part, groups[part], files, chosen
        )
        for part in parts
    }


def _groups(of: Of, files: list[int], parts: set[str]) -> dict[str, _Groups]:
    import numpy as np  # noqa: PLC0415 as above

    stored = of(row_codes.CODES, files).filter(pl.col("field").is_in(sorted(parts)))
    rows = stored.select("field", "file", "code", "codes").collect()
    lowest, found = min(files), {}
    for part in parts:
        own = rows.filter(pl.col("field") == part)
        first, count = np.zeros(max(files) - lowest + 1, np.int64), 0
        for file, groups in own.select("file", "code").iter_rows():
            first[file - lowest] = count
            count += groups
        codes = dict(own.select("file", "codes").iter_rows())
        found[part] = _Groups(codes=codes, first=first, lowest=lowest, count=count)
    return found


def _summed(
    rows: pl.LazyFrame,
    part: str,
    groups: _Groups,
    files: Mapping[int, int],
    chosen: Mapping[int, Numbers | None],
) -> pl.DataFrame:
    import numpy as np  # noqa: PLC0415 as above

    columns = ["date", *rollup.PARTS[part]]
    places = [groups.of_rows(file, files[file], some) for file, some in chosen.items()]
    counts = np.bincount(np.concatenate(places), minlength=groups.count)
    if sum(each.size for each in places) * _FEW < groups.count:
        found = zip(chosen, places, strict=True)
        rows = rows.filter(_among([(file, groups.codes_at(file, each)) for file, each in found]))
    read = rows.select("file", "code", *columns).collect(engine="streaming")
    n = pl.Series("n", counts[groups.places(read)], pl.Int64)
    return read.select(*columns, n).filter(pl.col("n") > 0)


def _among(found: Sequence[tuple[int, Numbers]]) -> pl.Expr:
    """Select the groups with these codes, by file."""
    import numpy as np  # noqa: PLC0415 as above

    known = np.unique(np.concatenate([file * _CODES + codes for file, codes in found]))
    return (pl.col("file") * _CODES + pl.col("code")).is_in(pl.Series(known).implode())
