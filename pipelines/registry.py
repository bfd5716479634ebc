"""Available integrations, discovered in pipelines/integrations, and the configured ones."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipelines import integrations
from pipelines.errors import ConfigurationError
from pipelines.sdk.contract import Integration, Source
from pipelines.settings import Settings, validated

_RESERVED = ("acts", "findings")


@cache
def kinds() -> dict[str, Integration]:
    """Return all integrations by kind."""
    modules = (
        importlib.import_module(f"{integrations.__name__}.{found.name}")
        for found in pkgutil.iter_modules(integrations.__path__)
    )
    return {module.INTEGRATION.kind: module.INTEGRATION for module in modules}


def kind(name: str) -> Integration:
    known = kinds()
    if name not in known:
        raise ConfigurationError(f"unknown kind {name!r}: use one of {', '.join(known)}")
    return known[name]


def sources(
    settings: Settings, names: tuple[str, ...] = (), *, secrets: bool = True
) -> list[Source]:
    """Return the configured integrations, or those in `names`.

    Without `secrets`, those in files and in the environment are not read: for commands that send
    no request to a vendor. Raises ConfigurationError with one line per error.
    """
    if unknown := [name for name in names if name not in settings.integrations]:
        configured = ", ".join(settings.integrations) or "none"
        raise ConfigurationError(f"{unknown[0]}: not configured; configured: {configured}")
    found = judged(settings, secrets=secrets)
    if faults := [each.faults for each in found if isinstance(each, Invalid)]:
        raise ConfigurationError("\n".join(faults))
    valid = [each for each in found if isinstance(each, Source)]
    return [one for one in valid if not names or one.name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """A section that cannot be used, with one line per error."""

    name: str
    faults: str


def judged(settings: Settings, *, secrets: bool = True) -> list[Source | Invalid]:
    """Return every configured integration, valid or not."""
    found: list[Source | Invalid] = []
    shared = {name: value for name, value in settings.network if value is not None}
    for name, keys in settings.integrations.items():
        try:
            found.append(source(name, {**shared, **keys}, secrets=secrets))
        except ConfigurationError as error:
            found.append(Invalid(name=name, faults=str(error)))
    return found


def source(name: str, keys: Mapping[str, Any], *, secrets: bool = True) -> Source:
    """Return one configured integration. Raises ConfigurationError with one line per error."""
    where = f"integrations.{name}"
    if name in _RESERVED:
        raise ConfigurationError(
            f"{where}: a log of auditlake itself has this name: choose another"
        )
    try:
        integration = kind(str(keys.get("kind", name)))
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: kind: {error}") from None
    document = {"kind": integration.kind, **keys}
    settings = validated(integration.settings, document, where, secrets=secrets)
    if settings.webhook_secret and integration.push is None:
        raise ConfigurationError(
            f"{where}: webhook_secret: {integration.title} has no webhooks: remove the key"
        )
    configured = Source(name=name, integration=integration, settings=settings)
    available = [stream.name for stream in integration.streams(settings)]
    if unknown := [chosen for chosen in settings.streams if chosen not in available]:
        raise ConfigurationError(
            f"{where}: streams: {unknown[0]!r} is not one of {', '.join(available)}"
        )
    return configured
