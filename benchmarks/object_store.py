"""Requests that each command sends to a lake in an object store: a simulated S3 on loopback.

Every stream of the sandbox is polled into a new lake, and each command then runs in a process of
its own. Printed are its requests by method, the seconds, and the seconds of CPU. --detail also
prints its requests by method and table, and --delay lets each request take so many seconds.
--root puts the lake into a folder instead: then only the times mean anything.

    .venv/bin/python benchmarks/object_store.py
    .venv/bin/python benchmarks/object_store.py --delay 0.02 --only status sources
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from pipelines.cli import config_file  # noqa: E402
from sandbox.server import Options, Running, running  # noqa: E402
from tests.objects import s3  # noqa: E402
from tests.objects.s3 import S3  # noqa: E402

_SOURCES = """
import time
from streamlit import config
from streamlit.testing.v1 import AppTest
from dashboard.screens import sources
config.set_option("server.address", "127.0.0.1")
AppTest.from_string("import streamlit; streamlit.text('')").run(timeout=300)
began = time.monotonic()
for _ in range({times}):
    page = AppTest.from_string("from dashboard.screens import sources\\nsources.show()")
    page.run(timeout=300)
    assert not page.exception, page.exception
print(f"    in a server, which has imported its modules: {{time.monotonic() - began:.1f}} s")
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--delay", type=float, default=0.0)
    arguments.add_argument("--detail", nargs="*", default=[], help="Names of steps.")
    arguments.add_argument("--only", nargs="*", help="Names of steps, after the first poll.")
    arguments.add_argument("--kinds", nargs="*", help="Services; all by default.")
    arguments.add_argument("--days", type=int, default=2)
    arguments.add_argument("--per-day", type=float, default=100)
    arguments.add_argument("--root", action="store_true", help="A lake in a folder.")
    chosen = arguments.parse_args()
    options = Options(days=chosen.days, per_day=chosen.per_day, rate=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(options) as vendors,
        s3.running() as store,
    ):
        _configure(Path(folder), vendors, store, chosen.kinds, in_folder=chosen.root)
        _steps(Path(folder), vendors, store, chosen)


def _configure(
    folder: Path, vendors: Running, store: S3, kinds: list[str] | None, *, in_folder: bool
) -> None:
    services = {k: v for k, v in vendors.settings().items() if not kinds or k in kinds}
    root = str(folder / "lake") if in_folder else f"s3://bucket/{uuid.uuid4().hex}"
    text = config_file.document(services, root, integrity=str(folder / "keys"))
    if not in_folder:
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in store.options.items()]
        text += "[lake.storage_options]\n" + "".join(lines)
    (folder / "auditlake.toml").write_text(text)


def _steps(folder: Path, vendors: Running, store: S3, chosen: argparse.Namespace) -> None:
    print(f"{'':24}{'requests':>9}  {'by method':40} {'s':>6} {'CPU s':>6}")
    for number, (name, command) in enumerate(_commands()):
        if number and chosen.only and name not in chosen.only:
            continue
        if name.endswith("with news"):
            _happen(vendors)
        # Streams polled lately are not polled again.
        store.order(delay=chosen.delay)
        store.requests()
        with _measured() as spent:
            done = subprocess.run(
                command,
                cwd=folder,
                env=_environment(folder),
                capture_output=True,
                text=True,
                check=False,
            )
        store.order()
        requests = store.counted()
        methods: Counter[str] = Counter()
        for kind, count in requests.items():
            methods[kind.partition(" ")[0]] += count
        by_method = " ".join(f"{method} {count}" for method, count in sorted(methods.items()))
        print(
            f"{name:24}{requests.total():>9,}  {by_method:40} {spent[0]:6.1f} {spent[1]:6.2f}",
            flush=True,
        )
        if name.startswith("sources"):
            print(done.stdout, end="")
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-2000:])
        if name in chosen.detail:
            for kind, count in requests.most_common(100):
                print(f"    {count:5} {kind}")


def _commands() -> Iterator[tuple[str, list[str]]]:
    def auditlake(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipelines", *arguments]

    yield "first poll", auditlake("poll")
    yield "idle poll", auditlake("poll")
    yield "poll with news", auditlake("poll")
    yield "detect", auditlake("detect")
    yield "status", auditlake("status")
    yield "coverage", auditlake("coverage")
    yield "sources", [sys.executable, "-c", _SOURCES.format(times=1)]
    yield "sources, twice", [sys.executable, "-c", _SOURCES.format(times=2)]
    yield "verify", auditlake("verify")
    yield "verify again", auditlake("verify")
    yield "verify --full", auditlake("verify", "--full")
    yield "maintain", auditlake("maintain")
    yield "maintain again", auditlake("maintain")
    yield "verify, maintained", auditlake("verify")
    yield "status, maintained", auditlake("status")
    yield "sources, maintained", [sys.executable, "-c", _SOURCES.format(times=1)]
    yield "search", auditlake("search")


def _happen(vendors: Running) -> None:
    time = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}"
    record = {"uuid": uuid.uuid4().hex, "eventType": "user.session.start", "published": time}
    vendors.sandbox.append("okta", "system_log", [json.dumps(record).encode()])


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "AUDITLAKE_CONFIG": str(folder / "auditlake.toml"),
    }


@contextmanager
def _measured() -> Iterator[list[float]]:
    """Yield a list that gets the seconds and the seconds of CPU of the processes run meanwhile."""
    spent: list[float] = []
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield spent
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent += time.monotonic() - since, cpu


if __name__ == "__main__":
    main()
