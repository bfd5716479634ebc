"""Run a small form of every benchmark and print ratios: `make bench [BASE=COMMIT]`.

Each figure is compared with the peer of its script, measured in the same run. `--base` measures it
at another commit, too, with the scripts of this one, in a git worktree; by default that is the last
release, or the commit of the figures in benchmarks/README.md, and only figures without a peer are
compared with it. A ratio below 1 means that auditlake, or this commit, is better. Times are CPU
seconds where a script has them, so that other load on the machine matters less. Run it on an idle
machine nevertheless; `--write` puts the table into benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

PROJECT = Path(__file__).parents[1]
README = PROJECT / "benchmarks" / "README.md"
BEGIN, END = "<!-- written by make bench -->\n", "<!-- end -->\n"
HEAD = ("Benchmark", "Figure", "auditlake", "Peer", "Ratio", "Base", "Ratio")
NONE = "-"
_FOLDER = ".cache/benchmark-small"
_LAKES = ("--root", _FOLDER)
_NUMBER = r"[\d,.]+"
_LIMIT = 600
"""Seconds that a script may take, on a busy machine."""
_DAYS = {"BENCHMARK_DAYS": "40"}
"""Of the generated lake, whose cost grows with the number of its files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure in the output of a script: the sum of `ours` over all lines that match."""

    name: str
    line: str
    """A regular expression with a group `ours`, and `peer` if there is one."""
    more: bool = False
    """Whether more is better."""

    def read(self, output: str) -> tuple[float | None, float | None]:
        """Return the figure and its peer's, each None if the output has none."""
        found = [each.groupdict() for each in re.finditer(self.line, output, re.MULTILINE)]
        ours, peer = ([one[name] for one in found if one.get(name)] for name in ("ours", "peer"))
        return _sum(ours), _sum(peer)

    def ratio(self, ours: float | None, other: float | None) -> float | None:
        """Return how `ours` compares with `other`; below 1 is better."""
        if not ours or not other:
            return None
        return other / ours if self.more else ours / other


def _sum(texts: Sequence[str]) -> float | None:
    return sum(float(text.replace(",", "")) for text in texts) if texts else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A script, the arguments of its small form, and of one that only shows that it works."""

    name: str
    small: tuple[str, ...]
    tiny: tuple[str, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A figure as it was measured."""

    benchmark: str
    figure: Figure
    ours: float | None
    peer: float | None
    base: float | None = None

    def cells(self) -> tuple[str, ...]:
        ratios = (self.figure.ratio(self.ours, other) for other in (self.peer, self.base))
        peer, base = (NONE if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        ours, theirs, before = map(_shown, (self.ours, self.peer, self.base))
        return (f"`{self.benchmark}`", self.figure.name, ours, theirs, peer, before, base)


def _shown(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _columns(*names: str) -> str:
    """Return the expression of a line that ends with numbers; "" is one of no interest."""
    return "".join(rf" +(?P<{name}>{_NUMBER})" if name else rf" +{_NUMBER}" for name in names)


BENCHMARKS = (
    Benchmark(
        name="extract",
        small=("--records", "20000"),
        tiny=("--records", "1000"),
        figures=(
            Figure(name="CPU, s", line=rf"^seconds of CPU{_columns('ours', 'peer')}$"),
            Figure(name="peak memory, MB", line=rf"^peak memory, MB{_columns('ours', 'peer')}$"),
        ),
    ),
    Benchmark(
        name="normalise",
        small=("okta", "--records", "60000"),
        tiny=("okta", "--records", "2000"),
        figures=(
            Figure(
                name="Okta's events per CPU second",
                line=rf"^okta{_columns('ours', 'peer')}",
                more=True,
            ),
        ),
    ),
    Benchmark(
        name="dashboard",
        small=("--events", "200000", *_LAKES),
        tiny=("--events", "20000", *_LAKES),
        figures=(
            Figure(
                name="CPU of all questions, ms",
                line=rf"^  (?!peak).*?{_columns('', '', '', 'ours', 'peer', '')}$",
            ),
        ),
    ),
    Benchmark(
        name="clicks",
        small=("--events", "200000", *_LAKES, "--sessions", "1"),
        tiny=("--events", "20000", *_LAKES, "--sessions", "1"),
        figures=(
            Figure(
                name="CPU of the server, all clicks, ms",
                line=rf"^  (?!peak).*?{_columns('', '', 'ours', '')}$",
            ),
            Figure(
                name="CPU of Chromium, all clicks, ms",
                line=rf"^  (?!peak).*?{_columns('', '', '', 'ours')}$",
            ),
        ),
    ),
    Benchmark(
        name="integrity",
        small=("--rows", "50000", "--proofs", "100000"),
        tiny=("--rows", "5000", "--proofs", "10000"),
        figures=(
            Figure(
                name="sign an append of 500 rows, ms",
                line=rf"^  its tree, signature and checkpoint, ms{_columns('ours', 'peer')}",
            ),
            Figure(
                name="CPU of signing, % of the append",
                line=rf"^  the same in CPU, %{_columns('ours')}$",
            ),
            Figure(
                name="verify all rows, CPU, s",
                line=rf"^  CPU of that, s, of all processes{_columns('ours')}$",
            ),
        ),
    ),
    Benchmark(
        name="freshness",
        small=("--seconds", "5", "--lead", "1", "--rate", "20"),
        tiny=("--seconds", "2", "--lead", "1", "--rate", "20"),
        figures=(
            Figure(
                name="from push, or poll, to `events`, median, s",
                line=rf"^(?:pushed{_columns('', 'ours')}|polled every 10 s{_columns('', 'peer')})",
            ),
        ),
    ),
    Benchmark(
        name="growth",
        small=("--rows", "20000", "200000"),
        tiny=("--rows", "2000", "4000"),
        figures=(
            Figure(
                name="a round of 1,000 events, or MERGE, s",
                line=rf"^ *{_NUMBER}{_columns('ours', '', '', '', 'peer')}$",
            ),
            Figure(
                name="CPU of a round, the larger lake over the smaller",
                line=rf"^largest compared with smallest:.* (?P<ours>{_NUMBER}) the CPU",
            ),
        ),
    ),
    Benchmark(
        name="dagster_home",
        small=("--days", "2", "--runs", "2", "--scale", "1000"),
        tiny=("--days", "1", "--runs", "1", "--scale", "1000"),
        figures=(Figure(name="size of the directory, MB", line=rf"^ +2{_columns('', 'ours')}"),),
    ),
    Benchmark(
        name="detect",
        small=("--records", "2000", "--events", "50000", "--folder", _FOLDER),
        tiny=("--records", "200", "--events", "20000", "--folder", _FOLDER),
        figures=(
            Figure(
                name="all rules, rows per CPU second",
                line=rf"^all rules, from raw: .*{_columns('', '', 'ours', '')}$",
                more=True,
            ),
            Figure(
                name="rules over events, rows per CPU second",
                line=(
                    rf"^(?:\d+ rules over events: .*{_columns('', '', 'ours', '')}"
                    rf"|the same in DuckDB{_columns('', '', 'peer', '')})$"
                ),
                more=True,
            ),
        ),
    ),
    Benchmark(
        name="peers",
        small=("--alone", "--records", "3500"),
        tiny=("--alone", "--records", "3500"),
        figures=(
            Figure(name="requests, with faults", line=rf"^auditlake{_columns('', '', '', 'ours')}"),
            Figure(
                name="peak memory, MB",
                line=rf"^auditlake{_columns('', '', '', '', '', '', 'ours')}$",
            ),
        ),
    ),
    Benchmark(
        name="renormalise",
        small=("--rows", "30000"),
        tiny=("--rows", "2000"),
        figures=(
            Figure(
                name="CPU of deriving, or of DuckDB's copy, s",
                line=(
                    rf"^(?:one process{_columns('', '', '', 'ours')}"
                    rf"|DuckDB{_columns('', '', '', 'peer')})s"
                ),
            ),
        ),
    ),
    Benchmark(
        name="storage",
        small=("--records", "2000", "--days", "5"),
        tiny=("--records", "200", "--days", "2"),
        figures=(
            Figure(
                name="bytes per record, of Okta and of all vendors, added",
                line=(
                    rf"^  (?:in all{_columns('ours', '')} times"
                    rf"|NDJSON, zstd -19{_columns('peer')})$"
                ),
            ),
        ),
    ),
    Benchmark(
        name="object_store",
        small=("--kinds", "okta", "--days", "1", "--per-day", "40"),
        tiny=("--kinds", "okta", "--days", "1", "--per-day", "10"),
        figures=(
            Figure(
                name="requests of all commands",
                line=rf"^\S.*? +(?P<ours>{_NUMBER})  [A-Z]+ \d",
            ),
        ),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("only", nargs="*", help="names of benchmarks; default: all")
    options.add_argument("--base", metavar="COMMIT", help="compare every figure with this commit")
    options.add_argument("--tiny", action="store_true", help="only show that they work")
    options.add_argument("--write", action="store_true", help="write benchmarks/README.md")
    given = options.parse_args(arguments)
    chosen = [each for each in BENCHMARKS if not given.only or each.name in given.only]
    base = _git("rev-parse", "--short", given.base or last_measured())
    rows = []
    with worktree(base) as folder:
        print(line(HEAD), flush=True)
        for benchmark in chosen:
            for row in measured(benchmark, folder, every=bool(given.base), tiny=given.tiny):
                rows.append(row)
                print(line(row.cells()), flush=True)
    if given.write:
        README.write_text(inserted(README.read_text(), rows, about(base, tiny=given.tiny)))
    missing = sorted({row.benchmark for row in rows if row.ours is None})
    if missing:
        raise SystemExit(f"no figure of: {', '.join(missing)}")


def line(cells: Sequence[str]) -> str:
    """Return the cells of a row below those of the others."""
    return f"{cells[0]:15}{cells[1]:50}" + "".join(f"{cell:>11}" for cell in cells[2:])


def measured(benchmark: Benchmark, base: Path, *, every: bool, tiny: bool) -> Iterator[Row]:
    """Yield the figures of a benchmark; `every` compares those with a peer with the base, too."""
    arguments = benchmark.tiny if tiny else benchmark.small
    output = run(benchmark.name, PROJECT, arguments)
    found = [(figure, *figure.read(output)) for figure in benchmark.figures]
    compared = every or any(peer is None for _, _, peer in found)
    before = run(benchmark.name, base, arguments) if compared else ""
    for figure, ours, peer in found:
        old = figure.read(before)[0] if every or peer is None else None
        yield Row(benchmark=benchmark.name, figure=figure, ours=ours, peer=peer, base=old)


def run(name: str, project: Path, arguments: Sequence[str]) -> str:
    """Return the output of a script with the packages of this project, or "" if it fails."""
    with subprocess.Popen(
        [sys.executable, str(project / "benchmarks" / f"{name}.py"), *arguments],
        cwd=project,
        env={**os.environ, **_DAYS, "PYTHONPATH": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            output, errors = "", f"not finished after {_LIMIT} s"
        finally:
            with suppress(ProcessLookupError):  # its children, too, and after Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = (errors.strip() or "no message").splitlines()[-1]
        print(f"  {name} failed in {project}: {last}", file=sys.stderr, flush=True)
        return ""
    return output


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """Yield a folder with the sources of a commit, and with the benchmarks of this one."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "base"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            copytree(PROJECT / "benchmarks", folder / "benchmarks", dirs_exist_ok=True)
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def last_measured() -> str:
    """Return the commit to compare with unless one is given: see above."""
    try:
        return _git("merge-base", "HEAD", _git("describe", "--tags", "--abbrev=0"))
    except subprocess.CalledProcessError:
        return _git("log", "-1", "--format=%H", "--", str(README))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["/usr/bin/env", "git", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def about(base: str, *, tiny: bool) -> str:
    here = _git("rev-parse", "--short", "HEAD")
    command = "benchmarks/small.py --tiny" if tiny else "make bench"
    size = ", in the smallest form, which only shows that they work" if tiny else ""
    return f"`{command}` at commit {here}, {os.cpu_count()} cores; base is {base}{size}:"


def inserted(text: str, rows: Sequence[Row], caption: str) -> str:
    """Return the text of the README with this table in place of the one before."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{caption}\n\n{table(rows)}\n{END}{after}"


def table(rows: Sequence[Row]) -> str:
    """Return a row for each figure; those that were not measured have none."""
    found = {(row.benchmark, row.figure.name): row.cells() for row in rows}
    lines = [HEAD, ("---",) * len(HEAD)]
    for each in BENCHMARKS:
        for figure in each.figures:
            nothing = Row(benchmark=each.name, figure=figure, ours=None, peer=None).cells()
            lines.append(found.get((each.name, figure.name), nothing))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
