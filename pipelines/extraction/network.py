"""The way to a service: through a proxy, and with certificates besides the public ones.

Certificates are always verified; no setting changes that.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from pipelines.errors import ConfigurationError
from pipelines.settings import IntegrationSettings, is_loopback


def transport(settings: IntegrationSettings) -> httpx.HTTPTransport:
    """Return a transport as configured. Raises ConfigurationError for an unusable bundle."""
    trusted = _trusted(settings.ca_bundle) if settings.ca_bundle else httpx.create_ssl_context()
    return httpx.HTTPTransport(verify=trusted, proxy=_proxy(settings, trusted), retries=0)


def _proxy(settings: IntegrationSettings, trusted: ssl.SSLContext) -> httpx.Proxy | None:
    # A service on this machine is a simulated one, which no proxy can reach.
    if settings.proxy is None or is_loopback(httpx.URL(settings.base_url).host):
        return None
    url = httpx.URL(settings.proxy.get_secret_value())
    return httpx.Proxy(url, ssl_context=trusted if url.scheme == "https" else None)


def _trusted(bundle: Path) -> ssl.SSLContext:
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
