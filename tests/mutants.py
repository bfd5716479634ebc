"""Mutation testing of the modules that hold the promises: `make mutate`.

Draws mutants at random from the syntax trees, by a fixed seed: swapped comparisons and operators,
negated conditions, changed numbers, removed calls and statements. Each is put into a copy of the
tree, and the module's own tests should fail. Those that still pass are printed as a diff.
"""

from __future__ import annotations

import ast
import difflib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
_UNCHANGED_SECONDS = 1_200
_MOST_BYTES = 8 << 30
_VERIFIER = "pipelines/integrity/verifier"
_OWN = "tests/integrity/verifier"
_TAMPERING = "tests/integrity/test_tampering.py"
TESTS: dict[str, tuple[str, ...]] = {
    "pipelines/lake/commits.py": ("tests/lake/test_commits.py",),
    "pipelines/lake/raw.py": ("tests/lake/test_raw.py",),
    "pipelines/lake/coverage.py": ("tests/lake/test_coverage.py",),
    "pipelines/sdk/windows.py": ("tests/sdk/test_windows.py",),
    "pipelines/extraction/rounds.py": ("tests/extraction/test_rounds.py",),
    "pipelines/integrity/signer.py": ("tests/integrity/test_signer.py",),
    "pipelines/webhooks/receiver.py": ("tests/webhooks/test_receiver.py",),
    "dashboard/auth.py": ("tests/dashboard/test_auth.py",),
    f"{_VERIFIER}/events.py": ("tests/integrity/test_mappings.py", _TAMPERING),
    f"{_VERIFIER}/findings.py": (f"{_OWN}/test_findings.py",),
    f"{_VERIFIER}/job.py": (f"{_OWN}/test_job.py",),
    **{
        f"{_VERIFIER}/{name}.py": (f"{_OWN}/test_{name}.py",)
        for name in (
            *("audit", "data_files", "identities", "known_checkpoints", "log_reader"),
            *("operator_acts", "per_file", "proofs", "restores", "rollups", "superseded"),
            *("text_index", "tree", "witnesses"),
        )
    },
    **{
        f"{_VERIFIER}/{name}.py": (f"{_OWN}/test_{name}.py", _TAMPERING)
        for name in ("diagnosis", "rows", "table_reader", "verify")
    },
}
"""Module -> the tests that should notice any change of it."""

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COMBINED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A module with one change."""

    module: str
    line: int
    source: str

    def diff(self, former: str) -> str:
        lines = (each.splitlines(keepends=True) for each in (former, self.source))
        return "".join(list(difflib.unified_diff(*lines, n=1))[2:])


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its syntax tree."""
    starts = [0]
    for text in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    data = source.encode()
    for node, changed in _changes(ast.parse(source)):
        first = starts[node.lineno - 1] + node.col_offset
        until = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        new = data[:first] + changed.encode() + data[until:]
        yield Mutant(module=module, line=node.lineno, source=new.decode())


def _changes(tree: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Yield (node, new text) for each change of a node in the tree."""
    for node in _executed(tree):
        match node:
            case ast.Compare():
                for number, operator in enumerate(node.ops):
                    ops = [*node.ops[:number], _COMPARED[type(operator)](), *node.ops[number + 1 :]]
                    yield node, _text(ast.Compare(node.left, ops, node.comparators))
            case ast.BoolOp():
                other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield node, _text(ast.BoolOp(other, node.values))
            case ast.BinOp() if type(node.op) in _COMBINED:
                yield node, _text(ast.BinOp(node.left, _COMBINED[type(node.op)](), node.right))
            case ast.UnaryOp(op=ast.Not()):
                yield node, _text(node.operand)
            case ast.Constant(value=bool()):
                yield node, str(not node.value)
            case ast.Constant(value=int() | float()):
                yield node, str(node.value + 1)
                yield node, f"({node.value - 1})"
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.If() | ast.While() | ast.IfExp():
                yield node.test, f"(not {_text(node.test)})"
            case ast.Expr(value=ast.Call() | ast.Await()):
                yield node, "pass"
            case ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
                yield node, "pass"


def _text(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run: no annotations, decorators, docstrings and parts of f-strings."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _executed(child)


def drawn(count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants of all modules, always the same for a seed."""
    every = [
        mutant for module in TESTS for mutant in mutants(module, (ROOT / module).read_text("utf-8"))
    ]
    return random.Random(seed).sample(every, min(count, len(every)))


def main(count: int, seed: int, jobs: int, seconds: int) -> int:
    """Try the mutants, print the survivors; return 1 if more than one in ten survives."""
    chosen, began = drawn(count, seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(_copied(Path(folder) / str(number)))
        _check_without_change(copies, pool, sorted({mutant.module for mutant in chosen}))
        tried = pool.map(lambda mutant: _passes(copies, mutant.module, seconds, mutant), chosen)
        killed = len(chosen) - sum(map(_reported, chosen, tried))
    share = f"{killed} of {len(chosen)} mutants killed, {killed / len(chosen):.1%}"
    print(f"{share}, in {time.monotonic() - began:,.0f} s; seed {seed}")
    return int(killed < 0.9 * len(chosen))


def _reported(mutant: Mutant, survived: bool) -> bool:
    if survived:
        former = (ROOT / mutant.module).read_text("utf-8")
        print(f"SURVIVED {mutant.module}:{mutant.line}\n{mutant.diff(former)}", flush=True)
    else:
        print(f"killed {mutant.module}:{mutant.line}", flush=True)
    return survived


def _check_without_change(
    copies: SimpleQueue[Path], pool: ThreadPoolExecutor, modules: Sequence[str]
) -> None:
    passed = pool.map(lambda module: _passes(copies, module, _UNCHANGED_SECONDS), modules)
    if broken := [module for module, ok in zip(modules, passed, strict=True) if not ok]:
        sys.exit(f"the tests of {', '.join(broken)} fail without any change")


def _copied(folder: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)  # noqa: S607
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def _passes(
    copies: SimpleQueue[Path], module: str, seconds: int, mutant: Mutant | None = None
) -> bool:
    """Return whether the tests of a module pass in a copy of the tree, with the mutant if any."""
    copy = copies.get()
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"]
    try:
        if mutant:
            (copy / module).write_text(mutant.source, "utf-8")
        return _succeeds([*command, *TESTS[module]], copy, seconds)
    finally:
        shutil.copy(ROOT / module, copy / module)
        copies.put(copy)


def _succeeds(command: Sequence[str], folder: Path, seconds: int) -> bool:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    # A session of its own: a mutant that hangs may have started processes.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_limit_memory,  # noqa: PLW1509 the child only sets a limit
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _limit_memory() -> None:
    # A loop that a mutant never ends would take all of the machine's.
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
