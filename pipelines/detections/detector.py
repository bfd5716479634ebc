"""Evaluates the configured rules on new rows, and signs their findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from pipelines.clock import Clock, utc_now
from pipelines.detections import engine, exceptions, files, interrupted, overlay
from pipelines.detections.engine import Exceptions, Step
from pipelines.detections.overlay import Rulebook
from pipelines.detections.sources import Reader
from pipelines.integrity import signer
from pipelines.lake import findings, look
from pipelines.lake.tables import Lake, StreamKey
from pipelines.settings.detections import DetectionSettings


def exceptions_of(lake: Lake, book: Rulebook) -> Exceptions:
    """Return the function that fills in the exceptions of the file and of the lake."""
    recorded = exceptions.recorded(findings.exceptions(lake))
    return partial(exceptions.excepted, exceptions=(*book.exceptions, *recorded))


@dataclass(slots=True, kw_only=True)
class Detector:
    """The rules of one lake; they are read again when a file of them has changed."""

    lake: Lake
    settings: DetectionSettings
    clock: Clock = utc_now
    _read: tuple[object, Rulebook] | None = field(default=None, repr=False)

    def rulebook(self) -> Rulebook:
        """Return the rules with their overlay. Raises ConfigurationError."""
        now = self.clock()
        # The values of watch lists end with a day.
        present = now.date(), files.stamp(self.settings)
        if self._read is None or self._read[0] != present:
            self._read = present, overlay.read(self.settings, now)
            interrupted.of(self.lake).expire()
        return self._read[1]

    def detect(self, keys: Iterable[StreamKey] | None = None) -> Iterator[Step]:
        """Evaluate the rows behind the positions of these streams, by default of all.

        Yields after each commit, whose findings are signed by then. Does nothing if detections are
        disabled or no rule runs. Raises LakeError and ConfigurationError.
        """
        made = self.rulebook() if self.settings.enabled else None
        if made is None or not made.ruleset.all():
            return
        self._sign_rest()
        excepted = exceptions_of(self.lake, made)
        steps = engine.detect(self.lake, made.ruleset, keys, exceptions=excepted, clock=self.clock)
        for step in steps:
            if step.findings.height:
                rows = int(step.findings["seq"][-1]) + 1
                signer.sign(self.lake, findings.LOG, rows, self.clock(), step.findings)
            yield step

    def _sign_rest(self) -> None:
        """Sign the findings that a kill has left without a signature."""
        if rows := findings.positions(self.lake, [findings.SEQ])[findings.SEQ]:
            signer.sign(self.lake, findings.LOG, rows, self.clock())

    def stored(self, keys: Iterable[StreamKey] | None = None) -> Mapping[StreamKey, int]:
        """Return how many raw rows of each stream can be evaluated."""
        reader = Reader(self.lake)
        with look.look(self.lake) as seen:
            return reader.stored(reader.logs(keys), seen)

    def behind(
        self,
        keys: Iterable[StreamKey] | None = None,
        rows: Mapping[StreamKey, int] | None = None,
    ) -> int:
        """Return how many raw rows no rule, or not every one, has seen yet; writes nothing.

        Counts all rows, or those that `stored` returned earlier.
        """
        made = self.rulebook() if self.settings.enabled else None
        return engine.behind(self.lake, made.ruleset, keys, rows) if made else 0
