"""`make bench` runs every benchmark, reads its figures, and writes the table of its README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import small
from benchmarks.small import Benchmark, Figure
from tests.tiers import FULL

PROJECT = Path(__file__).parents[1]
SCRIPTS = {
    path.stem
    for path in (PROJECT / "benchmarks").glob("*.py")
    if "argparse" in path.read_text() and path.stem != "small"
}
COST = Figure(name="cost", line=r"^cost (?P<ours>\d+) (?P<peer>\d+)$")
SPEED = Figure(name="speed", line=r"^cost \d+ (?P<ours>\d+)$", more=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository whose benchmark costs 30 now and 20 before, and its first commit."""
    (tmp_path / "benchmarks").mkdir()
    script = tmp_path / "benchmarks" / "one.py"
    script.write_text("import cost\ncost.show()\n")
    (tmp_path / "benchmarks" / "README.md").write_text(f"# A page\n{small.BEGIN}{small.END}rest\n")

    def git(*words):
        command = ["/usr/bin/env", "git", "-c", "user.name=A", "-c", "user.email=a@example.com"]
        done = subprocess.run([*command, *words], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    git("init", "--quiet")
    for cost in (20, 30):
        (tmp_path / "cost.py").write_text(f"def show(): print('cost', {cost}, 15)\n")
        git("add", ".")
        git("commit", "--quiet", "--message", f"cost {cost}")
    monkeypatch.setattr(small, "PROJECT", tmp_path)
    monkeypatch.setattr(small, "README", tmp_path / "benchmarks" / "README.md")
    ones = (Benchmark(name="one", small=(), tiny=(), figures=(COST, SPEED)),)
    monkeypatch.setattr(small, "BENCHMARKS", ones)
    return git


def test_every_benchmark_has_a_small_form_and_a_row_in_the_readme():
    assert {each.name for each in small.BENCHMARKS} == SCRIPTS
    figures = [(f"`{each.name}`", one.name) for each in small.BENCHMARKS for one in each.figures]
    text = (PROJECT / "benchmarks" / "README.md").read_text()
    assert [row[:2] for row in rows(text)] == figures
    for name in SCRIPTS:
        assert f"benchmarks/{name}.py`" in text


def rows(text):
    """Return the cells of each row of the table, after a check of its form."""
    (block,) = re.findall(f"{small.BEGIN}(.*?){small.END}", text, flags=re.S)
    lines = [line[2:-2].split(" | ") for line in block.splitlines() if line.startswith("|")]
    assert tuple(lines[0]) == small.HEAD
    for line in lines[2:]:
        assert len(line) == len(small.HEAD)
        assert all(re.fullmatch(r"-|[\d,.]+(e[+-]\d+)?", cell) for cell in line[2:]), line
    return [tuple(line) for line in lines[2:]]


def test_a_figure_is_the_sum_of_the_lines_that_match():
    assert COST.read("cost 1 2\ncost 30 4\ncosts 5 5\n") == (31, 6)
    assert COST.read("no cost\n") == (None, None)
    assert (COST.ratio(3, 2), SPEED.ratio(3, 2), COST.ratio(3, None)) == (1.5, 2 / 3, None)


def test_the_output_of_scripts_is_read():
    outputs = {
        "dashboard": """
200,000 events, 30 days              first   clock  DuckDB    CPU  DuckDB  ratio
  count                                 12       5      30      7      31   0.23
  one actor, totals and graph           80      40      60     50     100   0.50
  peak memory, MB                             377     334
""",
        "freshness": """
pushed                      230      0.32    0.81      0.90    1.70
  okta                       41      0.30    0.70      0.80    1.60
polled every 10 s           210      5.10    9.90      5.40   10.20
""",
        "detect": """
all rules, from raw: 12 findings                   1,000     9,000     12,000      500
120 rules over events: 7 hits                     20,000    80,000     90,000      300
the same in DuckDB                                20,000    40,000     30,000      300
""",
        "renormalise": """
one process       1.0    30,000    1.00       1.5s    1.00
processes         1.0    30,000    1.00       1.9s    1.20
DuckDB            0.1    30,000    1.00       0.5s    0.30
""",
    }
    found = {
        each.name: [one.read(outputs[each.name]) for one in each.figures]
        for each in small.BENCHMARKS
        if each.name in outputs
    }
    assert found == {
        "dashboard": [(57, 131)],
        "freshness": [(0.32, 5.10)],
        "detect": [(12_000, None), (90_000, 30_000)],
        "renormalise": [(1.5, 0.5)],
    }


def test_figures_without_a_peer_are_compared_with_the_commit_of_the_readme(project, capsys):
    small.main(["--write"])
    text = small.README.read_text()
    assert rows(text) == [
        ("`one`", "cost", "30", "15", "2.00", "-", "-"),
        ("`one`", "speed", "15", "-", "-", "15", "1.00"),
    ]
    assert (text.startswith("# A page\n"), text.endswith("rest\n")) == (True, True)
    assert "30" in capsys.readouterr().out
    assert len(project("worktree", "list").splitlines()) == 1


def test_a_base_is_compared_with_in_the_same_run(project, capsys):
    project("tag", "v1", "HEAD~1")
    for words in (["--base", "HEAD~1"], []):
        small.main(["one", *words])
    first, second = capsys.readouterr().out.split("Benchmark")[1:]
    assert "20       1.50" in first
    assert "1.50" not in second
    assert "15       1.00" in second


def test_a_benchmark_that_the_base_cannot_run_is_compared_with_nothing(project, capsys):
    project("tag", "v1", "HEAD~1")
    project("mv", "cost.py", "price.py")
    (small.README.parent / "one.py").write_text("import price\nprice.show()\n")
    small.main([])
    said = capsys.readouterr()
    assert "No module named 'price'" in said.err
    assert said.out.splitlines()[-1].split() == ["`one`", "speed", "15", "-", "-", "-", "-"]


def test_a_benchmark_that_fails_is_reported(project, capsys):
    (small.README.parent / "one.py").write_text("raise ValueError('broken')\n")
    with pytest.raises(SystemExit, match="no figure of: one"):
        small.main([])
    assert "ValueError: broken" in capsys.readouterr().err


@pytest.mark.skipif(not FULL, reason="minutes: AUDITLAKE_FULL=1")
def test_every_benchmark_runs():
    command = [sys.executable, str(PROJECT / "benchmarks" / "small.py"), "--tiny"]
    subprocess.run(command, cwd=PROJECT, check=True)
