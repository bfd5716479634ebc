"""Runs pure functions over parts of the lake on all cores, or on a Ray or Dask cluster.

Workers only read: the results return to the caller in the order of the parts, and the caller
commits them. So a worker that is killed has written nothing, and its part is worked on again. Parts
and results are pickled; they must contain no secret, since they may travel between machines.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import secrets
import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any, TypeVar

from pipelines.errors import AuditlakeError, ConfigurationError

PROCESSES = "processes"
FORMS = f"{PROCESSES}, ray, ray://HOST:PORT, dask or tcp://HOST:PORT"
_FEW_ROWS = 200_000  # are worked on faster than processes start
_MOST_DEATHS = 8
_THREADS = "POLARS_MAX_THREADS"

P = TypeVar("P")
R = TypeVar("R")


class Engine(ABC):
    """Workers, started when there is enough to do."""

    @abstractmethod
    def map(self, work: Callable[[P], R], parts: Sequence[P], rows: int) -> Iterator[R]:
        """Yield the results of `work` on all parts, in their order; `rows` is their size.

        `work` is a function that a worker can import. Only a few results wait to be taken.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop the workers."""


class InProcess(Engine):
    """No workers: each part is worked on when its result is needed."""

    def map(self, work: Callable[[P], R], parts: Sequence[P], rows: int) -> Iterator[R]:
        yield from map(work, parts)

    def close(self) -> None:
        pass


@contextmanager
def opened(
    name: str, variables: Mapping[str, str] | None = None, workers: int | None = None
) -> Iterator[Engine]:
    """Yield the engine of this name, one of FORMS, and stop it afterwards.

    Workers on this machine get the environment `variables`; those of a cluster have their own.
    Raises ConfigurationError if the engine is unknown, not installed or not to be reached.
    """
    check(name)
    kind, given = name.partition("://")[0], dict(variables or {})
    engine: Engine
    if kind == PROCESSES:
        engine = _Processes(given, workers or len(os.sched_getaffinity(0)))
    elif kind == "ray":
        engine = _Ray(name, given)
    else:
        engine = _Dask(name, given)
    try:
        yield engine
    finally:
        engine.close()


def check(name: str) -> None:
    """Raise ConfigurationError unless `name` is one of FORMS."""
    kind, separator, place = name.partition("://")
    host, _, port = place.rpartition(":")
    local = not separator and kind in (PROCESSES, "ray", "dask")
    if not local and not (kind in ("ray", "tcp", "tls") and host and port.isdigit()):
        raise ConfigurationError(f"--engine {name}: use {FORMS}")


def _in_order(
    parts: Sequence[P], most: int, submit: Callable[[P], Any], result: Callable[[Any], R]
) -> Iterator[R]:
    """Yield the result of each part while at most `most` are submitted."""
    waiting: deque[Any] = deque()
    for part in parts:
        if len(waiting) == most:
            yield result(waiting.popleft())
        waiting.append(submit(part))
    while waiting:
        yield result(waiting.popleft())


class _Processes(Engine):
    """Processes on this machine, one per core."""

    def __init__(self, variables: Mapping[str, str], workers: int) -> None:
        self._variables = {_THREADS: "1", **variables}
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(self, work: Callable[[P], R], parts: Sequence[P], rows: int) -> Iterator[R]:
        small = self._pool is None and rows < _FEW_ROWS
        if small or self._workers == 1 or len(parts) == 1:
            yield from map(work, parts)
        else:
            yield from self._mapped(work, parts)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _mapped(self, work: Callable[[P], R], parts: Sequence[P]) -> Iterator[R]:
        waiting: deque[Future[R]] = deque()
        done = deaths = 0
        try:
            while done < len(parts):
                try:
                    # One more than can run, so that no worker waits for this process.
                    for part in parts[done + len(waiting) : done + self._workers + 1]:
                        waiting.append(self._started().submit(work, part))
                    result = waiting[0].result()
                except BrokenProcessPool:
                    # One killed worker ends them all: start anew from the first open part.
                    deaths += 1
                    if deaths > _MOST_DEATHS:
                        raise AuditlakeError(_killed()) from None
                    waiting.clear()
                    self.close()
                    continue
                waiting.popleft()
                done, deaths = done + 1, 0
                yield result
        finally:
            for future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                # The threads of Polars do not survive a fork.
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._variables,),
            )
        return self._pool


def _killed() -> str:
    return (
        f"worker processes were killed {_MOST_DEATHS} times in a row, perhaps for want of memory: "
        "run it again with fewer cores, as with `taskset`"
    )


def _begin(variables: Mapping[str, str]) -> None:
    """Prepare a worker process, before anything but this module is imported."""
    os.environ.update(variables)
    # Ctrl-C is for the process that started this one, which then stops it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Without it, workers would wait for ever once their parent was killed.
    if (parent := multiprocessing.parent_process()) is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


class _Ray(Engine):
    """Ray: on this machine, or the cluster at ray://HOST:PORT."""

    def __init__(self, name: str, variables: Mapping[str, str]) -> None:
        # Ray would report its use to its makers.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        here = name == "ray"
        if here:
            # Ray listens on every address of the machine, and without a token it would run whatever
            # anybody sends. It reads the token once.
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        self._ray = _imported("ray", "ray")
        local: dict[str, Any] = {
            "address": "local",
            "include_dashboard": False,
            "runtime_env": {"env_vars": {_THREADS: "1", **variables}},
        }
        options = local if here else {"address": name}
        with _connected(name):
            self._ray.init(**options, log_to_driver=False, logging_level="ERROR")

    def map(self, work: Callable[[P], R], parts: Sequence[P], rows: int) -> Iterator[R]:
        task = self._ray.remote(work).options(num_cpus=1, max_retries=_MOST_DEATHS)
        most = int(self._ray.cluster_resources().get("CPU", 1)) + 1
        yield from _in_order(parts, most, task.remote, self._ray.get)

    def close(self) -> None:
        self._ray.shutdown()


class _Dask(Engine):
    """Dask: on this machine, or the scheduler at tcp://HOST:PORT or tls://HOST:PORT."""

    def __init__(self, name: str, variables: Mapping[str, str]) -> None:
        distributed = _imported("distributed", "dask")
        self._cluster: Any = None
        with _connected(name):
            if name == "dask":
                self._cluster = distributed.LocalCluster(
                    n_workers=len(os.sched_getaffinity(0)),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    # Otherwise any user of this machine could have the workers run anything.
                    security=True,
                    env={_THREADS: "1", **variables},
                )
            self._client = distributed.Client(self._cluster or name)

    def map(self, work: Callable[[P], R], parts: Sequence[P], rows: int) -> Iterator[R]:
        def submit(part: P) -> Any:
            return self._client.submit(work, part, pure=False)

        most = sum(self._client.ncores().values()) + 1
        yield from _in_order(parts, most, submit, lambda future: future.result())

    def close(self) -> None:
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _imported(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"--engine: {module} is not installed: run `pip install 'auditlake[{extra}]'`"
        ) from None


@contextmanager
def _connected(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ImportError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"--engine {name}: {reason}") from error
