"""Backtests in the background: one at a time, which stop when nobody looks at them any more.

What was evaluated until then is kept, so that the next start goes on from there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import altair as alt
import polars as pl

from dashboard.sight import Sight
from pipelines.detections import backtest
from pipelines.detections.backtest import Part
from pipelines.detections.rules import Rule
from pipelines.errors import AuditlakeError

DAYS = (7, 30, 90)
"""The spans that are offered."""
MOST = 100_000
"""Findings after which a backtest ends: the rule is too noisy to go on."""
_UNSEEN = 60.0
"""Seconds after which a backtest stops that no page has looked at."""
_PAUSE = 0.2
_COLOUR = "#d6567a"
_log = logging.getLogger(__name__)
_turn = threading.Lock()

Parts = Callable[[datetime, datetime], Iterator[Part]]
"""Evaluates the events from one time to before another."""


@dataclass(slots=True, kw_only=True)
class Backtest:
    """A backtest and how far it is; its thread changes the fields, pages read them."""

    rule: Rule
    sight: Sight
    """What the visitor who started it may see."""
    since: datetime
    until: datetime
    share: float = 0.0
    rows: int = 0
    hits: int = 0
    found: pl.DataFrame | None = None
    """All findings, the oldest first, once it has ended."""
    ended_early: bool = False
    """Whether there were too many findings to go on."""
    stopped: bool = False
    error: str = ""
    failed: dict[str, str] = field(default_factory=dict)
    _seen: float = field(default_factory=time.monotonic, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def running(self) -> bool:
        return self.found is None and not self.stopped and not self.error

    @property
    def days(self) -> int:
        return (self.until - self.since).days

    def look(self) -> None:
        """Note that somebody still looks at it."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Let it end soon; what was evaluated is kept."""
        self.stopped = True

    def wait(self) -> None:
        if self._thread:
            self._thread.join()


def start(rule: Rule, sight: Sight, days: int, now: datetime, parts: Parts) -> Backtest:
    """Start to evaluate a rule on the events of the last days."""
    made = Backtest(rule=rule, sight=sight, since=now - timedelta(days=days), until=now)
    # A daemon: a backtest that nobody waits for must not keep the server alive.
    made._thread = threading.Thread(target=_run, args=(made, parts), daemon=True)
    made._thread.start()
    return made


def _run(made: Backtest, parts: Parts) -> None:
    try:
        while not _turn.acquire(timeout=_PAUSE):
            if _is_over(made):
                return
        try:
            _follow(made, parts(made.since, made.until))
        finally:
            _turn.release()
    except AuditlakeError as error:
        made.error = str(error)
    except Exception as error:  # shown as text: a thread has no page to fail
        _log.exception("the backtest of %s failed", made.rule.id)
        made.error = f"the backtest failed ({type(error).__name__}): see the server's log"


def _follow(made: Backtest, parts: Iterator[Part]) -> None:
    found = list[pl.DataFrame]()
    for part in parts:
        found.append(part.findings)
        made.rows, made.hits = made.rows + part.rows, made.hits + part.findings.height
        made.failed |= part.failed
        if part.days:
            made.share = (part.days - part.days_left) / part.days
        if _is_over(made):
            return
        if made.hits > MOST:
            made.ended_early = True
            break
    made.found = pl.concat(found).sort("time", "finding_uid")


def _is_over(made: Backtest) -> bool:
    if time.monotonic() - made._seen > _UNSEEN:
        made.stop()
    return made.stopped


def per_day(found: pl.DataFrame, since: datetime, until: datetime) -> pl.DataFrame:
    """Return the number of findings on each day (UTC) of the span: day, n."""
    every = pl.DataFrame({"day": pl.date_range(since.date(), until.date(), eager=True)})
    counts = every.join(backtest.per_day(found), on="day", how="left", maintain_order="left")
    return counts.with_columns(pl.col("n").fill_null(0))


def chart(days: pl.DataFrame) -> alt.Chart:
    """Return findings per day as bars; `days` come from `per_day`."""
    label = "format(datum.value, '~s')"
    made: alt.Chart = (
        alt.Chart(days)
        .mark_bar(color=_COLOUR)
        .encode(
            x=alt.X(
                "day:T",
                title=None,
                axis=alt.Axis(grid=False, format="%d %b", tickCount=6),
            ),
            y=alt.Y(
                "n:Q",
                title=None,
                axis=alt.Axis(
                    tickCount=3, tickMinStep=1, domain=False, ticks=False, labelExpr=label
                ),
            ),
            tooltip=[
                alt.Tooltip("day:T", title="Day (UTC)", format="%d %b %Y"),
                alt.Tooltip("n:Q", title="Findings", format=","),
            ],
        )
        .properties(height=140)
    )
    return made
