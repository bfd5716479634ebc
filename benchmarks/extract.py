"""How fast records become events: `python benchmarks/extract.py [--records 200000]`.

The sandbox runs in a process of its own. auditlake and, beside it, the script one would write
without it (httpx, json, a Delta append a page, the cursor in a file: no anti-join, no events, no
fence) read the same history, each in a fresh process and an empty lake. Compare the two columns of
one run; absolute figures depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

DAYS = 90


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--records", type=int, default=200_000)
    options.add_argument("--worker", choices=["auditlake", "script"], help=argparse.SUPPRESS)
    options.add_argument("--settings", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.worker:
        worker(given.worker, json.loads(given.settings.read_text()))
        return
    with tempfile.TemporaryDirectory() as folder, sandbox(given.records) as base_url:
        figures = [measured(kind, base_url, Path(folder)) for kind in ("auditlake", "script")]
    report(*figures)


class sandbox:  # noqa: N801 reads as the context it is
    """The sandbox in its own process, its history already made."""

    def __init__(self, records: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        size = ["--days", str(DAYS), "--per-day", str(records / DAYS), "--rate", "0"]
        command = [sys.executable, "-m", "pipelines", "sandbox", "--port", str(self._port), *size]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def __enter__(self) -> str:
        base_url = f"http://127.0.0.1:{self._port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                ledger = f"{base_url}/_sandbox/ledger/okta/system_log"
                lines = httpx.get(ledger, timeout=300).text.count("\n")
            except httpx.ConnectError:
                time.sleep(0.1)
                continue
            print(f"the sandbox holds {lines:,} records")
            return base_url
        raise TimeoutError("the sandbox did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


def measured(kind: str, base_url: str, folder: Path) -> dict[str, float]:
    from sandbox import server  # noqa: PLC0415 the parent alone needs it

    settings = folder / f"{kind}.json"
    okta = server.settings(base_url)["okta"]
    settings.write_text(json.dumps({**okta, "root": str(folder / kind)}))
    command = [sys.executable, __file__, "--worker", kind, "--settings", str(settings)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def worker(kind: str, settings: dict[str, str]) -> None:
    root = settings.pop("root")
    started, cpu = time.perf_counter(), time.process_time()
    figures = auditlake(settings, root) if kind == "auditlake" else script(settings, root)
    figures["wall"] = time.perf_counter() - started
    figures["cpu"] = time.process_time() - cpu
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def auditlake(settings: dict[str, str], root: str) -> dict[str, float]:
    from pipelines import registry  # noqa: PLC0415 imported in the worker, and counted
    from pipelines.extraction import rounds  # noqa: PLC0415 imported in the worker, and counted
    from pipelines.lake.tables import Lake  # noqa: PLC0415

    (report,) = rounds.poll(Lake(root), [registry.source("okta", settings)])
    assert report.error is None
    assert report.rows == report.events
    return {"rows": report.rows, **report.seconds}


def script(settings: dict[str, str], root: str) -> dict[str, float]:
    import polars as pl  # noqa: PLC0415
    from deltalake import write_deltalake  # noqa: PLC0415

    rows, cursor = 0, Path(root + ".cursor")
    headers = {"Authorization": f"SSWS {settings['api_token']}"}
    since = datetime.now(UTC) - timedelta(days=DAYS + 1)
    url = f"{settings['base_url']}/api/v1/logs?since={since:%Y-%m-%dT%H:%M:%SZ}&limit=1000"
    with httpx.Client(headers=headers) as client:
        while records := client.get(url).raise_for_status():
            found = records.json()
            if not found:
                break
            frame = pl.DataFrame(
                {
                    "id": [r["uuid"] for r in found],
                    "time": [r["published"] for r in found],
                    "raw": [json.dumps(r) for r in found],
                }
            )
            write_deltalake(root, frame, mode="append")
            rows += len(found)
            url = records.links["next"]["url"]
            cursor.write_text(url)
    return {"rows": rows}


def report(ours: dict[str, float], theirs: dict[str, float]) -> None:
    print(f"{'':22}{'auditlake':>12}{'script':>12}")
    for name, figure in (
        ("records", lambda f: f"{f['rows']:,.0f}"),
        ("events/s", lambda f: f"{f['rows'] / f['wall']:,.0f}"),
        ("seconds", lambda f: f"{f['wall']:.2f}"),
        ("seconds of CPU", lambda f: f"{f['cpu']:.2f}"),
        ("peak memory, MB", lambda f: f"{f['peak']:.0f}"),
    ):
        print(f"{name:22}{figure(ours):>12}{figure(theirs):>12}")
    print("\nseconds by step (steps overlap; fetch includes waiting for its turn):")
    for step in ("fetch", "read", "write raw", "map", "write events"):
        print(f"  {step:20}{ours.get(step, 0.0):>12.2f}")


if __name__ == "__main__":
    main()
