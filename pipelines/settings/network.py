"""The way to a service: through a proxy, and with certificates besides the public ones.

Certificates are always verified; no setting changes that.
"""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path
from typing import Protocol, TypedDict

import httpx
from pydantic import SecretStr

from pipelines.errors import ConfigurationError
from pipelines.settings import is_loopback


class Way(Protocol):
    """The settings of the way to a service."""

    @property
    def ca_bundle(self) -> Path | None: ...
    @property
    def proxy(self) -> SecretStr | None: ...


class Options(TypedDict):
    """Arguments of httpx for the way to a service."""

    verify: ssl.SSLContext
    proxy: httpx.Proxy | None


def options(way: Way, url: str) -> Options:
    """Return the way to a service. Raises ConfigurationError for an unusable bundle."""
    context = trusted(way.ca_bundle) if way.ca_bundle else _public()
    return {"verify": context, "proxy": _proxy(way.proxy, context, url)}


def certificates(way: Way) -> ssl.SSLContext:
    """Return the trusted certificates for another protocol than HTTP.

    Raises ConfigurationError for an unusable bundle.
    """
    return trusted(way.ca_bundle) if way.ca_bundle else httpx.create_ssl_context()


@cache
def _public() -> ssl.SSLContext:
    # Reading the public certificates takes longer than most requests. httpx sets the protocols of
    # the context to those of HTTP, so only its clients may share it.
    return httpx.create_ssl_context()


def _proxy(proxy: SecretStr | None, trusted: ssl.SSLContext, service: str) -> httpx.Proxy | None:
    # A service on this machine is a simulated one, which no proxy can reach.
    if proxy is None or is_loopback(httpx.URL(service).host):
        return None
    url = httpx.URL(proxy.get_secret_value())
    return httpx.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)


def trusted(bundle: Path) -> ssl.SSLContext:
    """Return the public certificates and those in a bundle."""
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(cafile=bundle.expanduser())
    except OSError as error:  # an ssl.SSLError is one, too
        unreadable = error.strerror if not isinstance(error, ssl.SSLError) else None
        reason = unreadable or "it contains no certificate in PEM form"
        raise ConfigurationError(
            f"ca_bundle: {bundle}: {reason}: name a PEM file with the certificates to trust"
        ) from None
    return context
