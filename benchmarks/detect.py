"""Cost of detection: `python benchmarks/detect.py [--records 100000] [--events 1000000]`.

All rules in `rules/` are evaluated on records of all vendors from the sandbox, by the engine as in
production; the extraction of the same records, in the same run, shows its share. Rules
over the columns of `events` are also evaluated on generated events, and by DuckDB with the same
rules as SQL, which pySigma's backend for SQLite makes. Each part is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generated
import polars as pl
from extract import sandbox

from pipelines import registry
from pipelines.detections import engine, match, rules, ruleset
from pipelines.detections.ruleset import Ruleset
from pipelines.extraction import rounds
from pipelines.lake.tables import Lake
from sandbox import server

RULES = Path(__file__).parents[1] / "rules"
BATCH = 100_000

Figures = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=100_000, help="of a busy stream")
    options.add_argument("--events", type=int, default=1_000_000, help="generated events")
    options.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "auditlake")
    options.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options.add_argument("--where", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        print(json.dumps(measured(PARTS[given.part], given.where)))
        return
    made = loaded()
    print(f"{len(made.rules)} rules and {len(made.correlations)} correlations\n")
    print(f"{'':44}{'rows':>12}{'rows/s':>10}{'per CPU s':>11}{'peak MB':>9}")
    with tempfile.TemporaryDirectory() as folder, sandbox(given.records) as base_url:
        where = f"{folder}/lake {base_url}"
        fetched = part("extraction", where)
        found = part("detection", where)
    print(f"\ndetection adds {found['cpu'] / fetched['cpu']:.0%} to the CPU of the extraction\n")
    where = str(generated.lake(given.folder, given.events))
    ours, theirs = part("columns", where), part("duckdb", where)
    print(f"\nDuckDB needs {theirs['cpu'] / ours['cpu']:.1f} times the CPU of these rules")
    assert ours["hits"] == theirs["hits"], (ours["hits"], theirs["hits"])


def part(name: str, where: str) -> Figures:
    """Run a part in a process of its own, and print its figures."""
    command = [sys.executable, __file__, "--part", name, "--where", where]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    rate, per_cpu = found["rows"] / found["wall"], found["rows"] / found["cpu"]
    line = f"{found['rows']:>12,}{rate:>10,.0f}{per_cpu:>11,.0f}{found['peak']:>9,.0f}"
    print(f"{found['title']:44}{line}", flush=True)
    return found


def measured(run: Callable[[str], Figures], where: str) -> Figures:
    start = clock()
    found = run(where)
    # Not the one of getrusage, which a new process has from the one that started it.
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    peak = int(line.split()[1]) / 1024
    return spent(start) | {"peak": peak} | found


def clock() -> tuple[float, float]:
    """Return the time and the CPU seconds of this process and its children."""
    return time.perf_counter(), sum(os.times()[:4])


def spent(start: tuple[float, float]) -> Figures:
    wall, cpu = clock()
    return {"wall": wall - start[0], "cpu": cpu - start[1]}


def loaded() -> Ruleset:
    return ruleset.compiled(rules.load([RULES]))


def extraction(where: str) -> Figures:
    root, base_url = where.split()
    sources = [registry.source(kind, keys) for kind, keys in server.settings(base_url).items()]
    reports = list(rounds.poll(Lake(root), sources))
    assert not [report.error for report in reports if report.error]
    return {"title": "extraction into raw and events", "rows": sum(r.rows for r in reports)}


def detection(where: str) -> Figures:
    root, _ = where.split()
    steps = list(engine.detect(Lake(root), loaded()))
    found = sum(step.findings.height for step in steps)
    rows = sum(step.rows for step in steps)
    return {"title": f"all rules, from raw: {found:,} findings", "rows": rows}


def columns(where: str) -> Figures:
    """Evaluate the rules over columns of events, without those that read nested columns.

    Here and in DuckDB, the time does not contain the loading of rules.
    """
    chosen = [rule for rule in loaded().of_stream("events") if rule.rule.id in _as_sql()]
    start = clock()
    frame, rows, hits = pl.scan_delta(f"{where}/events"), 0, 0
    for batch in frame.collect_batches(chunk_size=BATCH):
        hits += match.events(chosen, batch).hits.height
        rows += batch.height
    title = f"{len(chosen)} rules over events: {hits:,} hits"
    return {"title": title, "rows": rows, "hits": hits} | spent(start)


def duckdb(where: str) -> Figures:
    import duckdb as engine  # noqa: PLC0415 of the peer alone

    queries = _as_sql()
    start = clock()
    base = engine.connect()
    base.execute(f"CREATE VIEW logs AS SELECT * FROM '{where}/events/date=*/*.parquet'")  # noqa: S608 our own folder
    rows = base.execute("SELECT count(*) FROM logs").fetchall()[0][0]
    sums = ", ".join(f"count(*) FILTER (WHERE {text})" for text in queries.values())
    hits = sum(base.execute(f"SELECT {sums} FROM logs").fetchall()[0])  # noqa: S608 our own rules
    return {"title": "the same in DuckDB", "rows": rows, "hits": hits} | spent(start)


def _as_sql() -> dict[str, str]:
    """Return the conditions of the rules over events, by id, that have a form in SQL."""
    from sigma.backends.sqlite import sqliteBackend  # noqa: PLC0415 of the peer alone
    from sigma.exceptions import SigmaError  # noqa: PLC0415

    found = {}
    for rule in loaded().of_stream("events"):
        nested = any(path.steps[0][0] == "targets" or not path.reads for path in rule.paths)
        if rule.source.kind or nested:
            continue
        try:
            (query,) = sqliteBackend().convert_rule(rule.rule.parsed)
        except SigmaError:
            continue
        found[rule.rule.id] = query.partition(" WHERE ")[2]
    return found


PARTS = {
    "extraction": extraction,
    "detection": detection,
    "columns": columns,
    "duckdb": duckdb,
}

if __name__ == "__main__":
    main()
