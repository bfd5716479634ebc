"""Dagster loads the definitions of all services at once, and of several instances of one."""

import dagster as dg
import pytest

from pipelines import definitions, registry
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings
from sandbox import server

SETTINGS = server.settings("http://127.0.0.1:9")


@pytest.mark.parametrize("signed", [True, False])
def test_all_services_and_two_of_a_kind_load_together(tmp_path, signed):
    sources = [registry.source(kind, keys) for kind, keys in SETTINGS.items()]
    sources.append(registry.source("second-okta", {**SETTINGS["okta"], "kind": "okta"}))
    lake = Lake(str(tmp_path), integrity=IntegritySettings(sign=signed, folder=tmp_path / "keys"))
    made = definitions.definitions(lake, sources)
    dg.Definitions.validate_loadable(made)
    groups = {spec.group_name for spec in made.resolve_all_asset_specs()}
    assert {*SETTINGS, "second__okta"} <= groups
