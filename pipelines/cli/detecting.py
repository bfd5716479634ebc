"""Evaluates the rules after rows have landed, for the commands that fetch them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from pipelines import errors
from pipelines.cli.options import counted
from pipelines.clock import utc_now
from pipelines.detections import files
from pipelines.errors import AuditlakeError
from pipelines.extraction import schedule
from pipelines.extraction.report import Report
from pipelines.lake.findings import FINDINGS
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import Settings

_AT_LEAST_EVERY = timedelta(minutes=10)
_LAST = StreamKey(FINDINGS.name, "detect")


def detect_news(
    chosen: Settings,
    lake: Lake,
    sources: Sequence[Source],
    reports: Iterable[Report],
    echo: Callable[[str], None],
) -> bool:
    """Do as `detect` does if a report has new rows or rules have changed, or every ten minutes.

    Otherwise there is little to do: a rule that failed is tried again, and a finding is settled
    once a gap is filled.
    """
    last = schedule.last_polled(lake, _LAST)
    recent = last and timedelta(0) <= utc_now() - last < _AT_LEAST_EVERY
    news = any(report.rows or report.events for report in reports)
    if last and recent and not news and not files.changed(chosen.detections, last):
        return True
    sound = detect(chosen, lake, sources, echo)
    if sound:
        schedule.claim_turn(lake, _LAST, None)
    return sound


def detect(
    chosen: Settings, lake: Lake, sources: Sequence[Source], echo: Callable[[str], None]
) -> bool:
    """Evaluate the rules on new rows of these integrations, and print how many findings there are.

    Return False if that failed, or if a rule did; the rows have landed all the same.
    """
    from pipelines.detections.detector import Detector  # noqa: PLC0415 slow, and often not needed

    detector = Detector(lake=lake, settings=chosen.detections, clock=utc_now)
    keys = [StreamKey(source.name, each.name) for source in sources for each in source.streams()]
    rows = found = 0
    failed: dict[str, str] = {}
    try:
        with errors.explained():
            for step in detector.detect(keys):
                rows, found = rows + step.rows, found + step.findings.height
                failed |= step.failed
    except AuditlakeError as error:
        echo(f"detections: FAILED: {error}")
        return False
    if rows:
        echo(f"detections: {counted(found, 'finding')} in {counted(rows, 'row')}")
    for rule, reason in failed.items():
        echo(f"detections: rule {rule} FAILED: {reason}")
    return not failed
