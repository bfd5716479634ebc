"""Runs the targets with Atheris, which looks for inputs that reach new code: `make fuzz`.

An input that violates a property is kept in tests/fuzz/inputs, and replayed by the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_LIMITS = ("-timeout=60", "-rss_limit_mb=4096", "-max_len=4096", "-print_final_stats=1")
_CORPUS = Path("test-artifacts/fuzz")
_TAIL = 30


def main(seconds: int, only: str = "") -> int:
    """Run each target whose name begins with `only`; return the number of those that failed."""
    from tests.fuzz.targets import TARGETS

    failed = []
    for name in (name for name in TARGETS if name.startswith(only)):
        done = _run(name, seconds)
        lines = done.stderr.splitlines()
        runs = [line for line in lines if "number_of_executed_units" in line]
        print(f"{name}: {' '.join(runs) or 'ended early'}, exit {done.returncode}", flush=True)
        if done.returncode:
            failed.append(name)
            print("\n".join(lines[-_TAIL:]), flush=True)
    return len(failed)


def _run(name: str, seconds: int) -> subprocess.CompletedProcess[str]:
    from tests.fuzz.targets import INPUTS, TARGETS

    corpus, found = _CORPUS / name, INPUTS / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    # libFuzzer ends the process without any clean-up.
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "tests.fuzz.coverage_guided", name, *_LIMITS]
        command += [f"-max_total_time={seconds}", f"-artifact_prefix={found}/", str(corpus)]
        environment = {**os.environ, "TMPDIR": temporary}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not any(found.iterdir()):
        found.rmdir()
    return done


def _fuzz(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["pipelines", "uvicorn.protocols", "h11"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz(sys.argv[1], sys.argv[2:])
