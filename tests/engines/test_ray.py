"""A local Ray runs nothing for anybody else, although it listens on every address."""

import os
import subprocess
import sys

import pytest

from pipelines import engines
from tests.engines import work

pytestmark = pytest.mark.engines
INTRUDER = """
import sys, ray
ray.init(address=sys.argv[1])
print("let in", ray.get(ray.remote(lambda: 1).remote()))
"""


@pytest.mark.parametrize("token", [{}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}])
def test_nobody_without_its_token_is_let_in(token):
    with engines.opened("ray") as engine:
        assert len(list(engine.map(work.identify, range(4), 1))) == 4
        import ray

        address = ray.get_runtime_context().gcs_address
        others = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        done = subprocess.run(
            [sys.executable, "-c", INTRUDER, address],
            env={**others, **token},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode != 0
    assert "let in" not in done.stdout
