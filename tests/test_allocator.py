"""The allocator of Polars and deltalake keeps free pages for a while."""

import os
import subprocess
import sys

import pytest

_ASK = "import pipelines, polars, os; print(os.environ['_RJEM_MALLOC_CONF'])"
_NAME = "_RJEM_MALLOC_CONF"


@pytest.mark.parametrize("chosen", [None, "dirty_decay_ms:0"])
def test_pages_are_kept_for_two_seconds_or_as_long_as_the_operator_says(chosen):
    others = {name: value for name, value in os.environ.items() if name != _NAME}
    env = others if chosen is None else {**others, _NAME: chosen}
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    # Of several values, the last one holds.
    assert done.stdout.strip().endswith(chosen or "dirty_decay_ms:2000,muzzy_decay_ms:2000")
