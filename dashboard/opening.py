"""Which lake the dashboard shows: what auditlake's own configuration says."""

from __future__ import annotations

from dashboard import lake
from dashboard.lake import Lake
from pipelines import settings
from pipelines.settings import ConfigurationError  # type: ignore[attr-defined]  # what load raises

MISCONFIGURED = ConfigurationError


def configured() -> Lake:
    """The lake of auditlake.toml; without that file, of the environment or of `data`."""
    path = settings.path_from_environment()
    chosen = settings.load(path).lake if path.exists() else settings.Settings().lake
    options = {key: secret.get_secret_value() for key, secret in chosen.storage_options.items()}
    return lake.held_open(chosen.root, tuple(sorted(options.items())))
