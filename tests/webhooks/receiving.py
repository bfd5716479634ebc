"""A receiver in a process of its own, to be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines import lake as lakes
from pipelines import registry, settings, webhooks
from pipelines.settings import Settings
from tests.webhooks.conftest import SECRET

registry.kinds()  # loaded once, before any is forked

OKTA = {"base_url": "https://acme.okta.com", "api_token": "x" * 20, "webhook_secret": SECRET}


def configured(folder: Path, port: int) -> Settings:
    document: dict[str, Any] = {
        "lake": {"root": str(folder / "lake")},
        "integrity": {"folder": str(folder / "keys")},
        "integrations": {"okta": OKTA},
        "webhooks": {"port": port},
        "dagster": {"port": 1},
    }
    return settings.validated(Settings, document, "test")


def receive(folder: Path, port: int) -> None:
    """What `auditlake receive` does."""
    chosen = configured(folder, port)
    webhooks.serve(chosen, lakes.configured(chosen), registry.sources(chosen), lambda _: None)
