"""Follow the links between pages, and notice when they lead back or nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipelines.errors import Unavailable

_MOST_EMPTY = 1000
_MOST_ALIKE = 3


class Trail:
    """The pages of one query so far.

    Ending such a query silently would claim a span as complete that was not read to its end.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._links: set[bytes] = set()
        self._last = _ends(())
        self._empty = self._alike = 0

    def follow(self, link: str, found: Sequence[bytes]) -> None:
        """Note the link to the page after `found`. Raises Unavailable if there is no progress."""
        digest, page = hashlib.blake2s(link.encode(), digest_size=12).digest(), _ends(found)
        if digest in self._links:
            raise self._endless("a page links back to one that was read before")
        self._links.add(digest)
        self._empty = 0 if found else self._empty + 1
        self._alike = self._alike + 1 if found and page == self._last else 1
        self._last = page
        if self._empty >= _MOST_EMPTY:
            raise self._endless(f"{_MOST_EMPTY:,} empty pages follow one another")
        if self._alike >= _MOST_ALIKE:
            raise self._endless("the same page comes again and again")

    def _endless(self, problem: str) -> Unavailable:
        return Unavailable(
            f"{self._service} does not come to an end: {problem}; nothing is taken for complete, "
            "and the next round retries"
        )


def _ends(page: Sequence[bytes]) -> tuple[int, Sequence[bytes]]:
    """Return the parts of a page by which it is recognised; hashing all of it costs too much."""
    return len(page), (page[0], page[-1]) if page else ()
