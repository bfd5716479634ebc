"""Evaluates the rules after rows have landed, for the commands that fetch them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines import errors
from pipelines.clock import utc_now
from pipelines.detections.detector import Detector
from pipelines.errors import AuditlakeError
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.settings import Settings


def detect(
    chosen: Settings, lake: Lake, sources: Sequence[Source], echo: Callable[[str], None]
) -> bool:
    """Evaluate the rules on new rows of these integrations, and print how many findings there are.

    Return False if that failed, or if a rule did; the rows have landed all the same.
    """
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
        echo(f"detections: {found:,} findings in {rows:,} rows")
    for rule, reason in failed.items():
        echo(f"detections: rule {rule} FAILED: {reason}")
    return not failed
