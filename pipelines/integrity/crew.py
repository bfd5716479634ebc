"""Lets an engine verify: its workers read the data files, and the verifier judges as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pipelines.engines import Engine
from pipelines.integrity.verifier.rows import Task
from pipelines.lake import workers
from pipelines.lake.tables import Lake

T = TypeVar("T")
R = TypeVar("R")


class EngineCrew:
    """Workers of an engine, which get no options of the store: each machine has its own."""

    def __init__(self, engine: Engine, lake: Lake) -> None:
        self._engine = engine
        self._lake = lake

    def map(self, work: Callable[[T], R], tasks: Sequence[T], count: int, /) -> Iterator[R]:
        """Yield the results of `work` on all tasks, in order; `count` is the rows they cover."""
        place = workers.address(self._lake)
        errands = [_Errand(place=place, work=work, task=_bare(task)) for task in tasks]
        return self._engine.map(_done, errands, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    place: str
    work: Callable[[Any], Any]
    task: Any


def _bare(task: T) -> T:
    return replace(task, options=None) if isinstance(task, Task) else task


def _done(errand: _Errand) -> Any:
    task = errand.task
    if isinstance(task, Task):
        task = replace(task, options=workers.lake(errand.place).scan_options)
    return errand.work(task)
