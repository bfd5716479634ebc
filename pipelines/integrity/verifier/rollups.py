"""Verifies `rollups` and the files of `events`, which decide what a search in the dashboard reads.

Both are computed again from the data files of `events`, whose rows are compared with raw elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
from deltalake import DeltaTable

from pipelines import visible
from pipelines.integrity.verifier import per_file, rows
from pipelines.integrity.verifier.job import LakeView, TableReport
from pipelines.integrity.verifier.rows import UNREADABLE
from pipelines.schemas import EVENTS, ROLLUPS

if TYPE_CHECKING:
    import numpy as np

_COUNTED = {
    "what": (
        *("time", "integration", "kind", "stream", "activity_type", "action_type", "action"),
        "outcome",
    ),
    "who": ("actor_email", "actor_name", "actor_id", "integration"),
    "where": ("source_ip", "country"),
    "whom": ("target_name", "target_id"),
}
_CODED = ("what", "who", "where")  # the parts for which `codes` name the group of each row
_DISGUISED = "disguised"  # the field whose `grams` are the columns with deceptive characters
_LAYOUT = 5  # of the aggregates that are computed again


def verify_events(place: LakeView, raw_tables: Callable[[], Iterable[str]]) -> TableReport:
    """Report files of `events` with wrong statistics, and events of streams that do not exist."""
    verdict = per_file.begin("events")
    handle = per_file.opened(place, verdict)
    if handle is not None:
        with per_file.Reported(verdict):
            files = per_file.files_of(handle)
            verdict.read = verdict.size = int(files["rows"].sum())
            per_file.check_statistics(place, verdict, handle, files)
            _check_streams(place, verdict, files, raw_tables)
    return per_file.ended(verdict)


def verify_rollups(place: LakeView, *, full: bool) -> TableReport:
    """Compare `rollups` with the events of the files it describes.

    Unless `full`, only with files that were added to it since the last successful run.
    """
    verdict = per_file.begin("rollups")
    handle = per_file.opened(place, verdict)
    if handle is not None:
        with per_file.Reported(verdict):
            first = 0 if full else per_file.first_unverified(place, "rollups")
            _check_rollups(place, verdict, handle, first)
    return per_file.ended(verdict)


def _check_streams(
    place: LakeView,
    verdict: TableReport,
    files: pl.DataFrame,
    raw_tables: Callable[[], Iterable[str]],
) -> None:
    """Report events that belong to no raw table; the report on each raw table counts its own."""
    paths = files["uri"].to_list()
    read = rows.event_rows(paths, place.options, place.kept, use_statistics=False)
    streams = read.group_by("integration", "stream").len().collect()
    # Listed last: a stream may have been polled for the first time just now.
    known = set(raw_tables())
    for integration, stream, count in sorted(streams.rows(), key=str):
        if f"raw/{integration}/{stream}" not in known:
            detail = f"events: {count:,} events of {integration}/{stream}, which has no raw table"
            verdict.found("events", None, detail)


def _check_rollups(place: LakeView, verdict: TableReport, handle: DeltaTable, first: int) -> None:
    own = per_file.files_of(handle)
    per_file.check_statistics(place, verdict, handle, own)
    stored = _with_all_columns(pl.scan_delta(handle))
    known = stored.filter(pl.col("part") == "files").collect()
    _check_numbers(verdict, stored, known)
    verdict.first, verdict.size = first, known.height
    if verdict.findings:
        return
    # Searches ignore aggregates of another layout and read the files themselves.
    current = known.filter(pl.col("file") >= first, pl.col("layout") == _LAYOUT)
    for batch in per_file.batches(place, current):
        verdict.read += batch.height
        numbers = pl.col("file").is_in(batch["file"].implode())
        try:
            _check_batch(place, verdict, batch, stored.filter(numbers).collect())
        except UNREADABLE:
            # Retention may have deleted files of the batch meanwhile.
            if batch.join(per_file.event_files(place), on="path", how="anti").is_empty():
                raise
    if not verdict.findings:
        per_file.keep_verified(place, "rollups", max(known["file"].to_list(), default=-1) + 1)


def _with_all_columns(stored: pl.LazyFrame) -> pl.LazyFrame:
    lacking = ROLLUPS.keys() - stored.collect_schema().keys()
    return stored.with_columns(pl.lit(None, ROLLUPS[name]).alias(name) for name in lacking)


def _check_numbers(verdict: TableReport, stored: pl.LazyFrame, known: pl.DataFrame) -> None:
    """Report rows that describe no file, and files that are described twice."""
    strays = stored.filter(~pl.col("file").is_in(known["file"].implode()).fill_null(value=False))
    count = strays.select(pl.len()).collect().item()
    if count:
        verdict.found("rollups", None, f"rollups: {count:,} rows describe no file")
    if known["path"].n_unique() != known.height or known["file"].n_unique() != known.height:
        verdict.found("rollups", None, "rollups: a file is listed twice")


def _check_batch(
    place: LakeView, verdict: TableReport, batch: pl.DataFrame, stored: pl.DataFrame
) -> None:
    named = batch.select("uri", "file", date="day").lazy()
    events = per_file.scan(place, batch["uri"].to_list(), EVENTS, ["date"]).join(named, on="uri")
    for part, expected in _expected(events).items():
        found = stored.filter(pl.col("part") == part).select(expected.columns)
        if not _sorted(expected).equals(_sorted(found)):
            verdict.found("rollups", None, f"rollups: {part} differ from the events counted again")
            return
    for row in batch.iter_rows(named=True):
        texts = stored.filter(pl.col("part") == "texts", pl.col("file") == row["file"])
        _check_texts(place, verdict, row, dict(texts.select("field", "grams").iter_rows()))
        _check_codes(place, verdict, row, stored.filter(pl.col("file") == row["file"]))


def _sorted(counted: pl.DataFrame) -> pl.DataFrame:
    return counted.sort(counted.columns)


def _expected(events: pl.LazyFrame) -> dict[str, pl.DataFrame]:
    n = pl.len().cast(pl.Int64).alias("n")
    found = {
        "files": events.group_by("file", "date").agg(
            n,
            since=pl.col("time").min(),
            until=pl.col("time").max(),
            held=pl.col("ingested_at").max(),
        ),
        **{
            part: _in_groups(events, part).group_by("file", "date", *columns).agg(n)
            for part, columns in _COUNTED.items()
        },
        "targets": _targets(events).group_by("file", "date", "target_name").agg(n),
    }
    return dict(zip(found, pl.collect_all(found.values()), strict=True))


def _in_groups(events: pl.LazyFrame, part: str) -> pl.LazyFrame:
    if part != "who":
        return events.with_columns(pl.col("time").dt.truncate("1h"))
    # An actor with an address is counted in all integrations together.
    addressed = pl.col("actor_email").fill_null("") != ""
    return events.with_columns(pl.when(~addressed).then(pl.col("integration")))


def _check_codes(
    place: LakeView, verdict: TableReport, file: Mapping[str, Any], stored: pl.DataFrame
) -> None:
    """Report a file where `codes` name another group for a row than that of its values."""
    columns = {name for part in _CODED for name in _COUNTED[part]}
    read = per_file.scan(place, [file["uri"]], EVENTS, ["date"]).with_row_index("row")
    events = read.select("row", *sorted(columns)).collect().sort("row")
    codes = stored.filter(pl.col("part") == "codes").select("field", "n", "code", "codes")
    named = {
        part: (n, count, _numbers(packed or b"", events.height))
        for part, n, count, packed in codes.rows()
    }
    for part in _CODED:
        n, count, numbers = named.get(part, (None, None, None))
        groups = stored.filter(pl.col("part") == part).select("code", *_COUNTED[part])
        sizes = (events.height, groups.height, len(_CODED))
        if (n, count, codes.height) == sizes and numbers is not None:
            rows = _in_groups(events.lazy(), part).select(numbers, *_COUNTED[part])
            if _sorted(rows.unique().collect()).equals(_sorted(groups)):
                continue
        verdict.found("rollups", None, f"rollups: {file['path']} has codes of other groups")
        return


def _numbers(packed: bytes, rows: int) -> pl.Series | None:
    """Return the numbers that are packed by their first bytes, second bytes and so on."""
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    width, rest = divmod(len(packed), max(1, rows))
    if rest or width not in (range(1, 8) if rows else range(1)):
        return None
    digits = np.frombuffer(packed, np.uint8).reshape(width, rows).astype(np.int64)
    weights = np.int64(256) ** np.arange(width)
    return pl.Series("code", weights @ digits)


def _targets(events: pl.LazyFrame) -> pl.LazyFrame:
    """Return each target of each event, by name or else by id, once; null where there is none."""

    def text(*names: pl.Expr) -> pl.Expr:
        return pl.coalesce(pl.when(name != "").then(name) for name in names)

    first = text(pl.col("target_name"), pl.col("target_id"))
    of_list = text(pl.element().struct.field("name"), pl.element().struct.field("id"))
    others = pl.col("targets").list.eval(of_list).fill_null(pl.lit([], pl.List(pl.String)))
    every = pl.concat_list(first, others).list.drop_nulls().list.unique()
    named = events.select("file", "date", target_name=every)
    return named.explode("target_name", empty_as_null=True)


def _check_texts(
    place: LakeView, verdict: TableReport, file: Mapping[str, Any], stored: dict[str, str | None]
) -> None:
    """Report a column with a trigram that `rollups` denies; too many trigrams only cost time."""
    events = per_file.scan(place, [file["uri"]], EVENTS, ["date"])
    # Rows of an older auditlake know nothing of texts that look different from what they are.
    disguised = stored.pop(_DISGUISED, None)
    for field, grams in stored.items():
        texts = per_file.texts_of(events, field)
        seen = visible.seen(texts).drop_nulls() if disguised is not None else texts.clear()
        unnamed = seen.len() and field not in (disguised or "").split("\0")
        all_texts = pl.concat([texts, seen]).str.join("\0").item() or ""
        if unnamed or (grams is not None and (trigrams(all_texts) & ~trigrams(grams)).any()):
            verdict.found("rollups", None, f"rollups: {file['path']} lacks texts of {field}")
            return


def trigrams(text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which of the 2**21 trigrams of ASCII characters, in lower case, the text contains."""
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    found = np.zeros(1 << 21, bool)
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    codes += np.where((codes >= ord("A")) & (codes <= ord("Z")), 32, 0)
    plain = (codes > 0) & (codes < 128)
    whole = plain[:-2] & plain[1:-1] & plain[2:]
    found[((codes[:-2] << 14) | (codes[1:-1] << 7) | codes[2:])[whole]] = True
    return found
