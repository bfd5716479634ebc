"""Odd files and absurd numbers are findings: none blocks, crashes or exhausts a verification."""

import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from pipelines.integrity import keys, note, operator_acts, reports, signer
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import WorkerPool
from tests.integrity import matrix
from tests.integrity.worlds import LOG, NOON

KINDS = {"okta": "okta"}


def loop(path):
    path.symlink_to(path.name)


def bind(path):
    # The path of a socket is short, so it is bound from its folder.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(before)


OBSTACLES = {
    "a FIFO": os.mkfifo,
    "a socket": bind,
    "a directory": Path.mkdir,
    "Too many levels of symbolic links": loop,
}


@pytest.fixture(autouse=True)
def _no_hanging():
    """End the tests instead of waiting for ever, should a file block."""
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture
def acted(signed):
    operator_acts.record(signed.lake, {"act": "retention", "table": LOG.table}, NOON)
    return signed


def everything(world):
    """Verify and keep all reports, as `auditlake verify` does."""
    place = world.place
    named = [*verify.tables(place), *reports.derived(place)]
    with WorkerPool(1) as crew:
        found = list(reports.verdicts(place, named, KINDS, crew, full=True))
    try:
        reports.keep(world.lake, found)
    except Exception as error:
        assert "not a file" in str(error) or "symbolic links" in str(error)
    return {report.table: report for report in found}


def files(world):
    """Return one file of each kind that a verification reads."""
    lake, log = world.folder / "lake", f"integrity/{LOG.app}"
    newest = max((lake / LOG.table / "_delta_log").glob("*.json"))
    return [
        *(f"{log}/checkpoint", f"{log}/history/2026-03", f"{log}/tile/0/000"),
        *("integrity/acts/checkpoint", "integrity/acts/tile/entries/000.p/1"),
        *(str(path.relative_to(lake)) for path in (newest, *lake.glob("raw/*/*/*/*.parquet"))),
        *(str(path.relative_to(lake)) for path in sorted(lake.glob("events/*/*.parquet"))[:1]),
        "events/_delta_log/00000000000000000000.json",
    ]


@matrix.attack(
    "put a FIFO, socket, directory or symlink loop in place of a file", "UNREADABLE", matrix.ROWS
)
@pytest.mark.parametrize("kind", OBSTACLES)
def test_an_odd_file_is_a_finding_with_its_path_and_kind(acted, kind):
    assert all(report.ok for report in everything(acted).values())
    lake = acted.folder / "lake"
    for name in files(acted):
        path, aside = lake / name, acted.folder / "aside"
        if path.exists():
            path.rename(aside)
        OBSTACLES[kind](path)
        try:
            (found,) = everything(acted)[LOG.table].findings
        finally:
            path.rmdir() if kind == "a directory" else path.unlink()
            if aside.exists():
                aside.rename(path)
        assert (found.kind, found.detail) == ("unreadable", f"{name}: {kind}, not a file") or (
            kind.startswith("Too") and found.detail == f"{name}: {kind}"
        )
    report = lake / "integrity/verification.json"
    report.unlink()
    OBSTACLES[kind](report)
    assert all(report.ok for report in everything(acted).values())


def signed_head(world, log, size):
    """Sign a checkpoint of so many rows with the real key; return its file."""
    kept = signer.of(world.lake, log)
    origin = signer.published(kept).origin
    text = note.signed(
        Head(origin=origin, size=size, root=b"r" * 32).text, keys.signing(kept.settings)
    )
    path = world.folder / "lake/integrity" / log / "checkpoint"
    path.write_bytes(text)
    return path


@pytest.fixture
def _little_memory():
    """Let this process grow by 1 GB at most."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@matrix.attack("sign a checkpoint of an absurd size", "TRUNCATED", matrix.ROWS)
@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("size", [2**31, 2**40, 2**63 - 1])
def test_a_checkpoint_of_absurd_size_is_a_finding_even_if_the_key_signed_it(acted, size):
    signed_head(acted, LOG.app, size)
    signed_head(acted, "acts", size)
    found = everything(acted)
    first = found[LOG.table].first_bad
    assert (first.kind, first.seq) == ("truncated", 0)
    assert f"{size:,} rows" in first.detail
    assert found["acts"].first_bad.kind == "changed"


@pytest.mark.usefixtures("_little_memory")
def test_large_files_of_the_log_are_findings_or_read_in_part(acted):
    log = acted.log
    for name in ("checkpoint", "tile/0/000"):
        kept = (log / name).read_bytes()
        with (log / name).open("r+b") as file:
            file.truncate(2**40)  # sparse: takes no space
        (found,) = everything(acted)[LOG.table].findings
        assert (found.kind, found.detail) == (
            "unreadable", f"integrity/{LOG.app}/{name}: larger than any such file"
        )  # fmt: skip
        (log / name).write_bytes(kept)
    (month,) = (log / "history").iterdir()
    line = month.read_bytes()
    with month.open("r+b") as file:
        file.truncate(2**40)
        file.seek(0, 2)
        file.write(b"\n" + line)
    assert everything(acted)[LOG.table].ok
    (log / "checkpoint").unlink()
    report = everything(acted)[LOG.table]
    assert (report.size, [each.kind for each in report.findings]) == (700, ["checkpoint"])
