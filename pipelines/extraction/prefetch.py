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

    The next item is made once the last one was taken, so at most one waits, made or in the making.
    If the consumer stops, the thread ends at its next item.
    """
    made: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    wanted, stopped = threading.Semaphore(1), threading.Event()

    def work() -> None:
        try:
            wanted.acquire()
            for item in items:
                made.put((item, None))
                del item  # for the same reason as `found` below
                wanted.acquire()
                if stopped.is_set():
                    return
        except BaseException as error:
            made.put((_END, error))
        else:
            made.put((_END, None))

    # With the variables of the consumer, of which one is its span.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), daemon=True)
    thread.start()
    try:
        while (found := made.get())[0] is not _END:
            wanted.release()
            yield found[0]
            del found  # free the batch now: it is large, and the next one may take a while
        if found[1] is not None:
            raise found[1]
    finally:
        stopped.set()
        wanted.release()
        thread.join()
