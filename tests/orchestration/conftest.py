"""An operator who ticks the sensor of a still sandbox, and a signed lake to verify."""

import dagster as dg
import pytest

from pipelines import definitions
from pipelines.extraction import client
from pipelines.extraction.client import RetryPolicy
from tests.integrity.conftest import _filled, _nobody_is_landing, signed

__all__ = ["_filled", "_nobody_is_landing", "signed"]


class Operator:
    """Ticks the sensor and runs what it requests, as the daemon does."""

    def __init__(self, world, instance):
        def connect(source, retry_policy=None):
            return client.connect(source, retry_policy=RetryPolicy(attempts=1))

        self.instance = instance
        self.made = definitions.definitions(world.lake, [world.source("okta")], connect)
        self.sensor = next(s for s in self.made.sensors if s.name == "poll_okta")

    def tick(self):
        """The requested runs and the skip message; all streams are due."""
        context = dg.build_sensor_context(
            self.instance, repository_def=self.made.get_repository_def()
        )
        ticked = self.sensor.evaluate_tick(context)
        return ticked.run_requests or [], ticked.skip_message

    def run(self, request):
        job = self.made.resolve_job_def("okta")
        chosen = job.get_subset(
            asset_selection=set(request.asset_selection),
            asset_check_selection=set(request.asset_check_keys),
        )
        return chosen.execute_in_process(
            instance=self.instance, tags=request.tags, raise_on_error=False
        )


@pytest.fixture
def operator(still_world):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Operator(still_world, instance)
