"""How much of a long promise is tested: a sample, or everything (`make test-full`)."""

import os
import random
from collections.abc import Iterable
from itertools import product
from typing import Any, TypeVar

FULL = "AUDITLAKE_FULL" in os.environ
_SEED = 17
T = TypeVar("T")


def some(cases: Iterable[T], count: int) -> list[T]:
    """Return `count` of the cases, always the same ones, or all in `make test-full`."""
    every = list(cases)
    if FULL or count >= len(every):
        return every
    chosen = random.Random(_SEED).sample(range(len(every)), count)
    return [every[place] for place in sorted(chosen)]


def crossed(*cases: Iterable[Any], count: int) -> list[tuple[Any, ...]]:
    """Return `count` combinations, with each case in one of them, or all in `make test-full`."""
    values = [list(each) for each in cases]
    if FULL:
        return list(product(*values))
    longest = max(map(len, values))
    shuffled = [random.Random(_SEED + place).sample(v, len(v)) for place, v in enumerate(values)]
    diagonal = [tuple(v[row % len(v)] for v in shuffled) for row in range(longest)]
    rest = [each for each in product(*values) if each not in diagonal]
    return diagonal + some(rest, max(0, count - longest))
