"""Bytes on disk per record: `python benchmarks/storage.py [--records 20000] [--days 90]`.

The sandbox's records, of Okta alone and of all vendors, are polled into a signed lake, which is
then maintained as if all days were over. Per table, the script prints the bytes per record, those
of the same records as NDJSON with `zstd -19` and as Parquet that DuckDB writes, and the part that
nothing can shrink: a digest per record in `raw`, one in the tiles, and the ids of records.
Then come the largest columns of `raw` and `events`, and what their footers and page headers take.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import duckdb
import extract
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import registry
from pipelines.extraction import rounds
from pipelines.lake import maintenance
from pipelines.lake.maintenance import MinimumAge
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.settings import IntegritySettings
from sandbox import server

OVER = date(2100, 1, 1)
AT_ONCE = timedelta(0)
DIGEST = 32
UUID = r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=20_000, help="of a busy stream")
    options.add_argument("--days", type=int, default=extract.DAYS)
    options.add_argument("--keep", type=Path, help="a folder for the lakes")
    given = options.parse_args()
    extract.DAYS = given.days
    with tempfile.TemporaryDirectory() as folder, extract.sandbox(given.records) as base_url:
        place = given.keep or Path(folder)
        vendors = server.settings(base_url)
        for title, kinds in (("Okta alone", ["okta"]), ("all vendors", sorted(vendors))):
            root = place / title.replace(" ", "-")
            sources = [registry.source(kind, vendors[kind]) for kind in kinds]
            report(title, filled(root, sources))


def filled(root: Path, sources: list[Source]) -> Lake:
    """Return a lake with all records of the sources, after maintenance."""
    private = IntegritySettings(folder=root.with_name(f"{root.name}.state"))
    lake = Lake(str(root), integrity=private)
    began = time.process_time()
    reports = list(rounds.poll(lake, sources))
    assert not [each.error for each in reports if each.error]
    print(f"extraction: {time.process_time() - began:.1f} s of CPU")
    began = time.process_time()
    keep = MinimumAge(**dict.fromkeys(MinimumAge.__dataclass_fields__, AT_ONCE))
    for _ in range(2):  # the second deletes what the first replaced
        list(maintenance.maintain(lake, [], OVER, keep))
        print(f"maintenance: {time.process_time() - began:.1f} s of CPU")
        began = time.process_time()
    return lake


def report(title: str, lake: Lake) -> None:
    records = stored(lake)
    n = records.height
    per = {name: size / n for name, size in sizes(Path(lake.root)).items()}
    ndjson = ("\n".join(records["raw"]) + "\n").encode()
    plain = len(pa.Codec("zstd", 19).compress(ndjson)) / n
    days = records.select(pl.struct("stream", "date").n_unique()).item()
    print(f"\n{title}: {n:,} records of {len(ndjson) / n:,.0f} B, {n / days:,.0f} a day and stream")
    for name, size in sorted(per.items(), key=lambda each: -each[1]):
        print(f"  {name:28}{size:>9.1f}")
    total = sum(per.values())
    print(f"  {'in all':28}{total:>9.1f}{total / plain:>8.1f} times")
    print(f"  {'NDJSON, zstd -19':28}{plain:>9.1f}")
    print(f"  {'Parquet of DuckDB, zstd':28}{parquet(records) / n:>9.1f}")
    print(f"  {'cannot shrink':28}{floor(records):>9.1f}")
    for table in ("raw", "events"):
        found = [(size / n, name) for name, size in columns(Path(lake.root, table)).items()]
        largest = ", ".join(f"{name} {size:.1f}" for size, name in sorted(found)[::-1] if size >= 2)
        print(f"  {table}: {largest}", flush=True)


def stored(lake: Lake) -> pl.DataFrame:
    """Return the records of all raw tables in the order they landed."""
    logs = sorted(Path(lake.root).glob("raw/*/*"))
    found = [
        pl.scan_delta(str(log)).with_columns(stream=pl.lit("/".join(log.parts[-2:])))
        for log in logs
    ]
    return pl.concat(found).sort("ingested_at", "stream", "seq").collect()


def sizes(root: Path) -> Counter[str]:
    """Return the bytes of the files by what they hold."""
    found: Counter[str] = Counter()
    for file in root.rglob("*"):
        if file.is_file():
            found[kind(file.relative_to(root))] += file.stat().st_size
    return found


def kind(path: Path) -> str:
    if "_delta_log" in path.parts:
        return "Delta logs"
    match path.parts:
        case ("integrity", *rest) if "entries" in rest:
            return "integrity: entry bundles"
        case ("integrity", *rest) if "tile" in rest:
            return "integrity: tiles"
        case ("integrity", *_):
            return "integrity: the rest"
        case ("raw" | "events" | "rollups" | "text_index" as name, *_):
            return name
    return "other tables"


def columns(folder: Path) -> Counter[str]:
    """Return the bytes of each column in all files, and of all that is no column."""
    found: Counter[str] = Counter()
    for file in folder.rglob("date=*/*.parquet"):
        held = pq.ParquetFile(file).metadata
        found["(the rest)"] += file.stat().st_size
        for number in range(held.num_row_groups):
            for at in range(held.num_columns):
                column = held.row_group(number).column(at)
                found[column.path_in_schema.partition(".")[0]] += column.total_compressed_size
                found["(the rest)"] -= column.total_compressed_size
    return found


def parquet(records: pl.DataFrame) -> int:
    with tempfile.TemporaryDirectory() as folder:
        held = records.drop("stream", "date").to_arrow(compat_level=pl.CompatLevel.oldest())
        base = duckdb.connect()
        base.register("held", held)
        base.execute(f"COPY held TO '{folder}/one.parquet' (FORMAT parquet, COMPRESSION zstd)")
        return Path(folder, "one.parquet").stat().st_size


def floor(records: pl.DataFrame) -> float:
    """Return the bytes per record of two digests and the ids, as small as they can be packed."""
    ids = records["event_id"].unique()
    uuids = ids.str.contains(UUID)
    others = "\n".join(ids.filter(~uuids)).encode()
    packed = uuids.sum() * 16 + len(pa.Codec("zstd", 19).compress(others))
    return 2 * DIGEST + float(packed) / records.height


if __name__ == "__main__":
    main()
