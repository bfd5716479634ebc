"""Verifies `text_index`, which decides which files a search for a text reads.

Every run of characters of every searched text must be in the filters of its file. That a filter
holds more than that only costs time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import polars as pl
from deltalake import DeltaTable

from pipelines import visible
from pipelines.integrity.verifier import per_file
from pipelines.integrity.verifier.job import LakeView, TableReport
from pipelines.integrity.verifier.rows import UNREADABLE
from pipelines.schemas import EVENTS, ID_FILTERS, WORD_FILTERS

if TYPE_CHECKING:
    import numpy as np

TABLE = "text_index"
_LAYOUT = 1  # of the filters that are computed again
FIELDS = {
    "ids": ("actor_id", "target_id", "event_id", "session_id", "correlation_id"),
    "words": (
        *("message", "action", "activity_type", "action_type", "actor_email", "actor_name"),
        *("target_name", "source_ip", "user_agent", "outcome_reason", "integration", "targets"),
    ),
}
"""The columns of `events` whose texts each of the filters has."""
FILTERS = {"ids": ID_FILTERS, "words": WORD_FILTERS}
_WIDTH = {"ids": 8, "words": 6}  # bytes of a run
_BITS = {"ids": 1, "words": 4}  # per run
_AT_ONCE = 50_000  # runs, whose numbers fit into a processor's cache


def verify(place: LakeView, *, full: bool) -> TableReport:
    """Look for the texts of all events in the filters of their files.

    Unless `full`, only in those that were added since the last successful run.
    """
    verdict = per_file.begin(TABLE)
    handle = per_file.opened(place, verdict)
    if handle is not None:
        with per_file.Reported(verdict):
            first = 0 if full else per_file.first_unverified(place, TABLE)
            _check(place, verdict, handle, first)
    return per_file.ended(verdict)


def _check(place: LakeView, verdict: TableReport, handle: DeltaTable, first: int) -> None:
    per_file.check_statistics(place, verdict, handle, per_file.files_of(handle))
    stored = pl.scan_delta(handle)
    known = stored.select("file", "path", "date", "layout").collect()
    verdict.first, verdict.size = first, known.height
    if known["path"].n_unique() != known.height or known["file"].n_unique() != known.height:
        verdict.found(TABLE, None, f"{TABLE}: a file is listed twice")
    if known["file"].null_count():
        verdict.found(TABLE, None, f"{TABLE}: a file has no number")
    # Searches ignore filters of another layout, and read the files themselves.
    current = known.filter(pl.col("file") >= first, pl.col("layout") == _LAYOUT)
    for batch in [] if verdict.findings else per_file.batches(place, current):
        numbers = pl.col("file").is_in(batch["file"].implode())
        filters = stored.filter(numbers).collect().rows_by_key("path", named=True, unique=True)
        for file in batch.iter_rows(named=True):
            verdict.read += 1
            _check_file(place, verdict, file, filters[file["path"]])
    if not verdict.findings:
        per_file.keep_verified(place, TABLE, max(known["file"].to_list(), default=-1) + 1)


def _check_file(
    place: LakeView, verdict: TableReport, file: Mapping[str, Any], filters: Mapping[str, Any]
) -> None:
    # A range of dates selects the filters that a search reads.
    if file["date"] != file["day"]:
        verdict.found(TABLE, None, f"{TABLE}: {file['path']} is listed on another day")
        return
    try:
        events = per_file.scan(place, [file["uri"]], EVENTS, ["date"])
        lacking = [kind for kind in FIELDS if not _holds(kind, filters, events)]
    except UNREADABLE:
        # Retention may have deleted the file meanwhile.
        if file["path"] in per_file.event_files(place)["path"]:
            raise
        return
    if lacking:
        verdict.found(TABLE, None, f"{TABLE}: {file['path']} lacks texts of its {lacking[0]}")


def _holds(kind: str, filters: Mapping[str, Any], events: pl.LazyFrame) -> bool:
    """Return whether the filters have every run of these texts."""
    parts = [filters[name] for name in FILTERS[kind]]
    for field in FIELDS[kind]:
        texts = per_file.texts_of(events, field)
        every = pl.concat([texts, visible.seen(texts).drop_nulls()])
        joined = every.str.to_lowercase().str.join("\0").item() or ""
        data = joined.encode()
        for start in range(0, len(data), _AT_ONCE):
            piece = data[start : start + _AT_ONCE + _WIDTH[kind] - 1]
            if not _all_set(parts, hashes(piece, _WIDTH[kind]), _BITS[kind]):
                return False
    return True


def hashes(data: bytes, width: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return the hash of every run of `width` bytes without a zero among them."""
    import numpy as np  # noqa: PLC0415 slow to import, and most commands need none

    count = max(0, len(data) - width + 1)
    codes = np.frombuffer(data, np.uint8)
    numbers, whole = np.zeros(count, np.uint64), np.ones(count, bool)
    for place in range(width):
        digit = codes[place : place + count]
        numbers |= digit.astype(np.uint64) << np.uint64(8 * place)
        whole &= digit != 0
    found = numbers[whole] * np.uint64(0x9E3779B97F4A7C15)
    return (found ^ found >> np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93)


def _all_set(
    parts: list[bytes | None], found: np.ndarray[Any, np.dtype[np.uint64]], bits: int
) -> bool:
    import numpy as np  # noqa: PLC0415 as above

    columns = (found >> np.uint64(64 - (len(parts) - 1).bit_length())).astype(np.int64)
    for number, part in enumerate(parts):
        values = found[columns == number]
        if part is None or not values.size:  # nothing is known there, or nothing asked
            continue
        held = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little")
        if not held.size:
            return False
        low, stride = values % 2**32, (values >> np.uint64(27)) % 2**32 | np.uint64(1)
        for times in range(bits):
            place = (low + np.uint64(times) * stride) % 2**32 * np.uint64(held.size) // 2**32
            if not held[place.astype(np.int64)].all():
                return False
    return True
