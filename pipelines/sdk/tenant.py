"""The tenant of a service, as the settings that are no secrets identify it.

A tenant has the form {"org_id": "1f2e", "base_url": "https://a.example"}, the most decisive name
first; a value may list several ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import httpx

from pipelines.settings import is_loopback

Tenant = Mapping[str, str]
_LIST = ", "


def by_address(base_url: str) -> Tenant:
    """Return the tenant of a service whose address identifies it; empty for a simulated one."""
    return {} if is_loopback(httpx.URL(base_url).host) else {"base_url": base_url}


def listed(ids: Iterable[str]) -> str:
    return _LIST.join(sorted(set(ids)))


def difference(known: Tenant, current: Tenant) -> str | None:
    """Return the name that tells two tenants apart; None if nothing does.

    The first name that both have decides. An organisation may be added to several, or removed.
    """
    shared = next((name for name in current if name in known), None)
    if shared is None or not _ids(known[shared]).isdisjoint(_ids(current[shared])):
        return None
    return shared


def merged(known: Tenant, current: Tenant) -> Tenant:
    """Return everything that is known about one tenant."""
    ids = {name: _ids(value) | _ids(current.get(name, value)) for name, value in known.items()}
    found = {**current, **{name: listed(values) for name, values in ids.items()}}
    return dict(sorted(found.items()))


def dump(tenant: Tenant) -> str:
    return json.dumps(dict(tenant)) if tenant else ""


def load(text: str) -> Tenant:
    return dict(json.loads(text)) if text else {}


def _ids(value: str) -> set[str]:
    return set(value.split(_LIST))
