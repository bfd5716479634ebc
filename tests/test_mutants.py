"""The mutants of `make mutate`: each is one change that can be compiled, drawn by a seed."""

import ast
import sys

import pytest

from tests import mutants

SOURCE = '''"""A module."""

import os


@cached(maxsize=3)
def run(path: "str | None" = None, sync: bool = True) -> int:
    """Return 7."""
    if path is None and not sync:
        os.fsync(3)
    text = f"{path + 1}"
    for _ in range(2):
        continue
    raise ValueError(text)
'''


def changed():
    """Return the lines that each mutant replaces, stripped, as (line, new text)."""
    found = []
    for mutant in mutants.mutants("x.py", SOURCE):
        ast.parse(mutant.source)
        pairs = zip(SOURCE.splitlines(), mutant.source.splitlines(), strict=True)
        ((number, new),) = [(n, b.strip()) for n, (a, b) in enumerate(pairs, 1) if a != b]
        assert number == mutant.line
        found.append((number, new))
    return found


def test_every_kind_of_change_is_made_once_and_nothing_else():
    signature = 'def run(path: "str | None" = None, sync: bool = {}) -> int:'
    assert sorted(changed()) == sorted([
        (7, signature.format("False")),
        (9, "if (not (path is None and (not sync))):"),
        (9, "if (path is None or not sync):"),
        (9, "if (path is not None) and not sync:"),
        (9, "if path is None and (sync):"),
        (10, "pass"),
        (10, "os.fsync(4)"),
        (10, "os.fsync((2))"),
        (12, "for _ in range(3):"),
        (12, "for _ in range((1)):"),
        (13, "pass"),
        (14, "pass"),
    ])  # fmt: skip


def test_a_seed_always_draws_the_same_mutants():
    first, again, other = (mutants.drawn(20, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({(each.module, each.source) for each in first}) == 20


def test_every_module_and_every_test_file_exists():
    names = [*mutants.TESTS, *(name for tests in mutants.TESTS.values() for name in tests)]
    assert [name for name in names if not (mutants.ROOT / name).is_file()] == []
    verifier = (mutants.ROOT / "pipelines/integrity/verifier").glob("[!_]*.py")
    assert {str(path.relative_to(mutants.ROOT)) for path in verifier} <= set(mutants.TESTS)


@pytest.mark.parametrize(("code", "passes"), [("pass", True), ("1 / 0", False),
                                              ("import time; time.sleep(600)", False),
                                              ("bytearray(2 << 30)", False)])  # fmt: skip
def test_a_failure_a_hang_and_endless_memory_count_as_noticed(tmp_path, monkeypatch, code, passes):
    monkeypatch.setattr(mutants, "_MOST_BYTES", 1 << 30)
    seconds = 60 if "sleep" not in code else 1
    assert mutants._succeeds([sys.executable, "-c", code], tmp_path, seconds) is passes


def test_the_diff_of_a_mutant_shows_its_line():
    first = next(mutants.mutants("x.py", SOURCE))
    assert "-def run(" in first.diff(SOURCE)
    assert "+def run(" in first.diff(SOURCE)
