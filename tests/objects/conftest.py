"""A small sandbox, shared by the tests of a folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.server import Options, Running
from sandbox.server import running as sandbox_running


@pytest.fixture(scope="session")
def vendors() -> Iterator[Running]:
    """A sandbox with a day of history and no new events."""
    with sandbox_running(Options(days=1, per_day=30, rate=0)) as found:
        yield found
