"""Files are made in the background, and their failure is text."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from dashboard import jobs
from pipelines.errors import LakeError


def test_a_job_reports_its_progress_and_its_file() -> None:
    half, go_on = threading.Event(), threading.Event()

    def make(path: Path, advance: Callable[[int, int], None]) -> int:
        advance(1, 2)
        half.set()
        assert go_on.wait(60)
        path.write_text("done")
        return 7

    job = jobs.start("pack.zip", "q=ada", make)
    assert half.wait(60)
    assert (job.running, job.share) == (True, 0.5)
    go_on.set()
    job.wait()
    assert not job.running
    assert job.path
    assert (job.path.name, job.path.read_text(), job.events) == ("pack.zip", "done", 7)
    assert job.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_failure_is_shown_as_text_without_the_internals_of_a_bug() -> None:
    def refused(path: Path, advance: Callable[[int, int], None]) -> None:
        raise LakeError("evidence packs need signed records")

    def broken(path: Path, advance: Callable[[int, int], None]) -> None:
        raise ValueError("secret")

    for make, text in ((refused, "evidence packs need signed records"), (broken, "(ValueError)")):
        job = jobs.start("pack.zip", "", make)
        job.wait()
        assert text in job.error
        assert "secret" not in job.error
        assert not job.running
