"""A receiver in its own process, so that tests can kill it."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

from pipelines import registry, settings
from pipelines.lake import tables
from pipelines.settings import Settings
from pipelines.webhooks import server
from tests.webhooks.conftest import SECRET

registry.kinds()  # loaded once, before the receivers are forked

OKTA = {"base_url": "https://acme.okta.com", "api_token": "x" * 20, "webhook_secret": SECRET}


def configured(folder: Path, port: int, *rules: Path, **sections: Any) -> Settings:
    document: dict[str, Any] = {
        "lake": {"root": str(folder / "lake")},
        "integrity": {"folder": str(folder / "keys")},
        "integrations": {"okta": OKTA},
        "webhooks": {"port": port, "spare_megabytes": 0},
        "dagster": {"port": 1},
        "detections": {"enabled": bool(rules), "rules": [*rules]},
        **sections,
    }
    return settings.validated(Settings, document, "test")


def receive(folder: Path, port: int, largest: int | None = None, **sections: Any) -> None:
    """Do as `auditlake receive` does; `largest` limits the size of files in bytes."""
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    chosen = configured(folder, port, **sections)
    server.serve(chosen, tables.configured(chosen), registry.sources(chosen), lambda _: None)
