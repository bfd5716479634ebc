"""Known gaps in the streams that a correlation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.detections.correlations import Correlation
from pipelines.detections.positions import Log, reads
from pipelines.detections.ruleset import Ruleset
from pipelines.lake import coverage, stream_state, streams
from pipelines.lake.stream_state import Coverage
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.pages import Span


@dataclass(slots=True)
class Gaps:
    """The coverage of streams, read once when it is first asked for."""

    _lake: Lake
    _rules: Ruleset
    _logs: Sequence[Log]
    _now: datetime
    _known: dict[StreamKey, Coverage] = field(default_factory=dict)

    def within(self, one: Correlation, since: datetime, until: datetime) -> bool:
        """Return whether a stream that the correlation reads has a gap between two times."""
        read = {name for part in one.parts for name in reads(self._rules.rules[part])}
        span = Span(since=since, until=until)
        logs = (log for log in self._logs if log.is_read(read))
        return any(stream_state.gaps(self._coverage(log.key), span) for log in logs)

    def _coverage(self, key: StreamKey) -> Coverage:
        if key not in self._known:
            facts = streams.facts(self._lake)[key]
            history = coverage.history(self._lake, key, facts)
            self._known[key] = stream_state.coverage(history, self._now)
        return self._known[key]
