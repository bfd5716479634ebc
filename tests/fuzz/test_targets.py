"""A bounded run of every target, and a replay of the inputs that once violated a property."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.spoiling import Choices, edited
from tests.fuzz.targets import INPUTS, TARGETS
from tests.tiers import FULL

FOUND = sorted(path for path in INPUTS.glob("*/*") if path.is_file())


def inputs(target):
    """Return a strategy of any bytes, and of edited seeds."""
    bytes_ = st.binary(max_size=400)
    seeds = target.seeds()
    if not seeds:
        return bytes_
    return bytes_ | st.builds(lambda seed, edits: edited(seed, Choices(edits)),
                              st.sampled_from(seeds), st.binary(max_size=24))  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_violates_the_property_of_a_target(name):
    target = TARGETS[name]

    @settings(
        max_examples=target.examples if FULL else target.examples // 2,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate,),  # shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(data=inputs(target))
    def run(data):
        target.run(data)

    run()
    for seed in target.seeds():
        target.run(seed)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_input_found_before_violates_nothing_any_more(path):
    TARGETS[path.parent.name].run(path.read_bytes())
