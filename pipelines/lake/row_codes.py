"""The group of `rollups` that each row of a data file of `events` is counted in.

The groups of a part in one file are numbered from 0 (`code`). The part CODES has the number of each
row's group, in the order of the rows in the file. So whoever knows which rows match a search can
count them without reading their values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from pipelines.lake import rollup

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.int64]]

CODES = "codes"
"""The part with one row per file and part that is coded, named in `field`."""
PARTS = ("what", rollup.WHO, "where")
"""The parts whose groups are numbered."""
COLUMNS = tuple(dict.fromkeys(name for part in PARTS for name in rollup.PARTS[part]))
"""The columns of `events` that `coded` reads."""


def coded(events: pl.DataFrame) -> pl.DataFrame:
    """Return the groups of one data file with their codes, and the codes of its rows.

    The columns are `part`, those of the parts, `code`, `n`, `field` and `codes`. `events` has all
    rows of the file, in order.
    """
    return pl.concat((_coded(events, part) for part in PARTS), how="diagonal")


def _coded(events: pl.DataFrame, part: str) -> pl.DataFrame:
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    rows = rollup.in_groups(events.lazy(), part).select(rollup.PARTS[part])
    groups = (
        rows.with_row_index("row")
        .group_by(rollup.PARTS[part], maintain_order=True)
        .agg("row", n=pl.len().cast(pl.Int64))
        .with_row_index("code")
        .collect()
    )
    codes = np.empty(events.height, np.int64)
    codes[groups["row"].explode().to_numpy()] = np.repeat(
        np.arange(groups.height), groups["n"].to_numpy()
    )
    about = {
        "part": [CODES],
        "field": [part],
        "code": [groups.height],
        "n": [events.height],
        "codes": [packed(codes)],
    }
    counted = groups.drop("row").with_columns(pl.col("code").cast(pl.Int64), part=pl.lit(part))
    return pl.concat([counted, pl.DataFrame(about)], how="diagonal")


def packed(codes: Numbers) -> bytes:
    """Return the lowest byte of each number, then the second byte of each, and so on.

    As many as the largest takes, at least one.
    """
    width = max(1, (int(codes.max(initial=0)).bit_length() + 7) // 8)
    return codes.astype("<i8").view("u1").reshape(-1, 8)[:, :width].T.tobytes()


def unpacked(data: bytes, rows: int, chosen: Numbers | None = None) -> Numbers:
    """Return the numbers of so many rows, or only of the `chosen` ones."""
    import numpy as np  # noqa: PLC0415 as above

    planes = np.frombuffer(data, "u1").reshape(-1, max(1, rows))
    if chosen is not None:
        planes = planes[:, chosen]
    codes = np.zeros(planes.shape[1] if data else 0, "u2" if len(planes) < 3 else "i8")
    for place, plane in enumerate(planes):
        codes |= plane.astype(codes.dtype) << 8 * place
    return codes.astype(np.int64, copy=False)
