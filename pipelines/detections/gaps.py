"""Known gaps in the streams that a correlation reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.detections.correlations import Correlation
from pipelines.detections.positions import Log, read_by
from pipelines.detections.ruleset import Ruleset
from pipelines.lake import coverage, stream_state, streams
from pipelines.lake.stream_state import Coverage
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.pages import Span


@dataclass(slots=True)
class Gaps:
    """The coverage of streams, read once, at its first use."""

    _lake: Lake
    _rules: Ruleset
    _logs: Sequence[Log]
    _now: datetime
    _known: dict[StreamKey, Coverage] = field(default_factory=dict)
    _answers: dict[tuple[str, datetime, datetime], bool] = field(default_factory=dict)
    _read: dict[str, list[StreamKey]] = field(default_factory=dict)

    def within(self, one: Correlation, since: datetime, until: datetime) -> bool:
        """Return whether a stream that the correlation reads has a gap between two times."""
        asked = one.rule.id, since, until
        if asked not in self._answers:
            span = Span(since=since, until=until)
            known = self._coverage(self._streams(one))
            self._answers[asked] = any(stream_state.gaps(each, span) for each in known)
        return self._answers[asked]

    def _streams(self, one: Correlation) -> list[StreamKey]:
        if one.rule.id not in self._read:
            read = read_by(self._rules, one)
            self._read[one.rule.id] = [log.key for log in self._logs if log.is_read(read)]
        return self._read[one.rule.id]

    def _coverage(self, keys: Sequence[StreamKey]) -> list[Coverage]:
        if new := [key for key in keys if key not in self._known]:
            facts = streams.facts(self._lake)
            found = coverage.histories(self._lake, {key: facts[key] for key in new})
            for key, history in found.items():
                self._known[key] = stream_state.coverage(history, self._now)
        return [self._known[key] for key in keys]
