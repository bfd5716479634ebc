"""Prefetch: run a generator in a background thread, one item ahead of its consumer."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """Yield the items in order; an exception of the source is raised after the items before it.

    At most one item is buffered. If the consumer stops, the thread ends at its next item.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                # The timeout lets an abandoned thread notice that nobody reads any more.
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
                del item  # for the same reason as `found` below
        except BaseException as error:
            put(_END, error)
        else:
            put(_END)

    # With the variables of the consumer, of which one is its span.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    try:
        while (found := waiting.get())[0] is not _END:
            yield found[0]
            del found  # free the batch now: it is large, and the next one may take a while
        if found[1] is not None:
            raise found[1]
    finally:
        stopped.set()
        thread.join()
