"""Working ahead: a generator runs in a thread of its own, a step before whoever reads it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The items in their order; what the source raises is raised after those that came before.

    At most one item waits. A reader that stops reading stops the thread at its next item.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            put(_END, error)
        else:
            put(_END)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (found := waiting.get())[0] is not _END:
            yield found[0]
            del found  # a batch is large, and the next one may take a while
        if found[1] is not None:
            raise found[1]
    finally:
        stopped.set()
        thread.join()
