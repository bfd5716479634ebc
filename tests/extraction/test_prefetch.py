"""A generator runs ahead of its consumer in a thread, and seems to run in its place."""

import threading
import weakref
from itertools import count, islice

import pytest

from pipelines.extraction.prefetch import prefetch
from tests.waiting import until


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


class Batch:
    """An item that can be watched."""


def test_items_arrive_in_order():
    assert list(prefetch(range(1000))) == list(range(1000))
    assert list(prefetch([])) == []
    assert list(prefetch([None, False])) == [None, False]


@pytest.mark.parametrize("error", [ValueError("page 3"), KeyboardInterrupt(), GeneratorExit()])
def test_an_error_is_raised_after_the_items_before_it(error):
    def pages():
        yield from (1, 2)
        raise error

    got = []
    with pytest.raises(type(error)) as found:
        for page in prefetch(pages()):
            got.append(page)
    assert (got, found.value) == ([1, 2], error)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_a_consumer_that_stops_early_ends_an_endless_source(taken):
    made = []
    pages = prefetch(made.append(number) or number for number in count())
    assert list(islice(pages, taken)) == list(range(taken))
    pages.close()
    assert len(made) <= taken + 1


def test_a_consumer_that_fails_keeps_its_own_error():
    with pytest.raises(ZeroDivisionError):
        for page in prefetch(iter([0, 1])):
            1 / page


def test_the_next_item_is_made_while_the_consumer_works():
    second = threading.Event()

    def pages():
        yield 1
        second.set()
        yield 2

    for _ in prefetch(pages()):
        assert second.wait(60)


def test_an_item_is_freed_while_the_next_one_is_awaited():
    watched = threading.Event()

    def pages():
        yield Batch()
        assert watched.wait(60)
        until(lambda: first() is None, "the first batch is freed", 60)
        yield Batch()

    batches = prefetch(pages())
    batch = next(batches)
    first = weakref.ref(batch)
    del batch
    watched.set()
    assert next(batches) is not None
    batches.close()
