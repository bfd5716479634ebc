"""Kill or end a process at a named point: the n-th call of a function."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

Trap = tuple[Any, str, bool]
"""A function by module and name, and whether the end comes after it instead of before."""


def kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def deadly(trap: Trap, turn: int, ends: Callable[[], NoReturn] = kill) -> Callable[..., Any]:
    """Return the trap's function, whose call number `turn` calls `ends`, before or after."""
    module, name, afterwards = trap
    real: Callable[..., Any] = getattr(module, name)
    calls = 0

    def called(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        ending = calls == turn
        if ending and not afterwards:
            ends()
        result = real(*args, **options)
        if ending and afterwards:
            ends()
        return result

    return called


def lay(trap: Trap, turn: int) -> None:
    """Replace the trap's function in this process, which ends with it."""
    module, name, _ = trap
    setattr(module, name, deadly(trap, turn))
