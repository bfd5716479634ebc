"""The files in deploy/dagster are valid for Dagster and for the launchers they name."""

from pathlib import Path

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config

FILES = Path(__file__).parents[2] / "deploy" / "dagster"
OURS = Path(__file__).parents[2] / "pipelines" / "orchestration" / "dagster.yaml"
LAUNCHERS = ("docker.yaml", "k8s.yaml", "celery.yaml")
VARIABLES = (
    *(f"DAGSTER_POSTGRES_{name}" for name in ("HOST", "DB", "USER", "PASSWORD")),
    *("AUDITLAKE_IMAGE", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"),
)


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "a-value")
    monkeypatch.setenv("DAGSTER_POSTGRES_PORT", "5432")


def text(name):
    return (FILES / name).read_text()


def validated(configurable):
    """Return the configuration of a class after its own schema accepted it."""
    module, name = configurable["module"], configurable["class"]
    chosen = getattr(pytest.importorskip(module), name)
    result = process_config(resolve_to_config_type(chosen.config_type()), configurable["config"])
    assert result.success, [error.message for error in result.errors]
    return result.value


@pytest.mark.parametrize("name", ["", *LAUNCHERS])
def test_dagster_accepts_the_file_together_with_that_of_the_database(name, tmp_path):
    added = text(name) if name else ""
    (tmp_path / "dagster.yaml").write_text(text("postgres.yaml") + added)
    config, _ = dagster_instance_config(str(tmp_path))
    assert set(config) == set(yaml.safe_load(text("postgres.yaml") + added))
    assert config["run_monitoring"]["enabled"] is True


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_accepts_its_configuration(name):
    assert validated(yaml.safe_load(text(name))["run_launcher"])


def test_the_database_is_configured_apart_from_what_up_configures():
    ours, theirs = yaml.safe_load(OURS.read_text()), yaml.safe_load(text("postgres.yaml"))
    storage = theirs.pop("storage")
    assert theirs == ours
    assert storage["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
