"""Mapping speed on one core: `python benchmarks/normalise.py [KIND ...]`.

The records come from the sandbox. Times are CPU seconds, so that other load on the machine hardly
matters. In the same process, a plain script maps the same records as one would without auditlake:
json.loads, the first path of each column, a list of rows; it has no types, OCSF classes or targets,
does not normalise addresses or countries, and an unexpected record stops it. The third figure is
the share of events in the catch-all class, which no rule of the vendor's table matches; the last
two are the peak memory for `--records` and for four times as many.

`--share FOLDER` prints only that share, for your own records: *.ndjson files in FOLDER with a JSON
object per line that contains `kind`, `stream` and, as `raw`, the vendor's record.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polars import DataFrame

    from pipelines.sdk.contract import Integration, Stream

BATCH = 20_000
RECORDS, TIMES = 60_000, 4


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("kinds", nargs="*")
    options.add_argument("--share", type=Path, metavar="FOLDER")
    options.add_argument("--records", type=int, default=RECORDS)
    options.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        print(json.dumps(worker(given.kinds[0], given.worker)))
        return
    if given.share:
        shares(given.share)
        return
    from sandbox import server  # noqa: PLC0415 the workers measure their own imports

    heads = ("kind", "events/s", "script", "catch-all", "peak MB", "4 x")
    print("{:18}{:>10}{:>10}{:>11}{:>9}{:>8}".format(*heads))
    for kind in given.kinds or sorted(server.services()):
        small, large = (measured(kind, size) for size in (given.records, TIMES * given.records))
        print(
            f"{kind:18}{large['ours']:>10,.0f}{large['script']:>10,.0f}"
            f"{large['catch_all']:>11.1%}{small['peak']:>9.0f}{large['peak']:>8.0f}"
        )


def shares(folder: Path) -> None:
    from pipelines import registry  # noqa: PLC0415
    from pipelines.mapping import ocsf  # noqa: PLC0415

    seen, unknown = Counter[str](), Counter[str]()
    for path in sorted(folder.glob("*.ndjson")):
        for (kind, name), lines in by_stream(path).items():
            integration = registry.kind(kind)
            stream = next(s for s in integration.streams(None) if s.name == name)
            for found in mapped(integration, stream, lines)[0].iter_rows(named=True):
                seen[kind] += 1
                unknown[kind] += (found["class_uid"], found["activity_id"]) == ocsf.CATCH_ALL
    for kind, events in seen.items():
        print(f"{kind:18}{events:>10,}{unknown[kind] / events:>11.1%}")


def by_stream(path: Path) -> dict[tuple[str, str], list[bytes]]:
    found: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for line in path.read_text().splitlines():
        record = json.loads(line)
        found[record["kind"], record["stream"]].append(json.dumps(record["raw"]).encode())
    return found


def measured(kind: str, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, kind, "--worker", str(size)]
    one_core = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_core)
    return json.loads(done.stdout)


def worker(kind: str, size: int) -> dict[str, float]:
    """Return the figures of a kind: all its streams in turn, on a single core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from pipelines import registry  # noqa: PLC0415
    from pipelines.mapping import ocsf  # noqa: PLC0415

    integration, logs = registry.kind(kind), records(kind)
    streams = [stream for stream in integration.streams(None) if logs.get(stream.name)]
    events = catch_all = 0
    ours = script = 0.0
    for stream in streams:
        for batch in batches(logs[stream.name], len(streams), size):
            rows, seconds = mapped(integration, stream, batch)
            ours += seconds
            script += walked(stream, batch)
            events += rows.height
            unknown = {"class_uid": ocsf.CATCH_ALL[0], "activity_id": ocsf.CATCH_ALL[1]}
            catch_all += rows.filter(**unknown).height
    return {
        "ours": events / ours,
        "script": events / script,
        "catch_all": catch_all / events,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def records(kind: str) -> dict[str, list[bytes]]:
    """Stream -> what the sandbox's company did in thirty days."""
    from sandbox.server import Options, Sandbox, services  # noqa: PLC0415

    sandbox = Sandbox(Options(days=30, per_day=1000, rate=0))
    return {
        stream.name: [record.raw for record in sandbox.log(kind, stream.name).visible()]
        for stream in services()[kind].streams
    }


def batches(found: list[bytes], streams: int, size: int) -> Iterator[list[bytes]]:
    """Yield batches of a stream's share of `size` records, repeating `found`.

    The size of a batch does not grow with `size`, so peak memory should not either.
    """
    endless = islice(cycle(found), size // streams)
    while batch := list(islice(endless, min(BATCH, RECORDS // streams))):
        yield batch


def mapped(integration: Integration, stream: Stream, batch: list[bytes]) -> tuple[DataFrame, float]:
    """Map a batch with auditlake; return the events and the CPU seconds."""
    from pipelines.mapping import normalise  # noqa: PLC0415

    raw = normalise.read(stream, batch, datetime.now(UTC), "poll").with_row_index("seq")
    started = time.process_time()
    rows = normalise.normalise(integration.kind, integration, stream, raw).events
    return rows, time.process_time() - started


def walked(stream: Stream, batch: list[bytes]) -> float:
    """Map a batch with the plain script; return the CPU seconds."""
    explode = stream.explode and f"{stream.explode}[]."
    sources = [s if isinstance(s, str) else s.paths[0] for s in stream.columns.values()]
    outer = [path.split(".") for path in sources if not (explode and path.startswith(explode))]
    inner = [path.removeprefix(explode).split(".") for path in sources if explode]
    started = time.process_time()
    rows = []
    for record in map(json.loads, batch):
        known = [at(record, steps) for steps in outer]
        for event in record.get(stream.explode, ()) if explode else (record,):
            rows.append(known + [at(event, steps) for steps in inner])
    return time.process_time() - started


def at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


if __name__ == "__main__":
    main()
