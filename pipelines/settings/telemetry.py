"""Traces by OpenTelemetry where they are turned on; otherwise a span costs next to nothing.

OpenTelemetry is imported only then. Spans have names, counts and addresses without a query. Of an
error they have its type alone, since its text may quote a record or a credential.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.errors import ConfigurationError
from pipelines.settings.fields import Secret, Section, Url, address

Value = str | int | float | bool
Kind = Literal["internal", "client", "consumer"]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MISSING = "OpenTelemetry is not installed, so there are no traces: install auditlake[otel]"
_SECONDS = 5
"""How long a batch of spans may take to be sent, also when the program ends."""

_provider: Any = None
_tracer: Any = None


class TelemetrySettings(Section):
    """Without an endpoint, the variables of OpenTelemetry apply, if any."""

    endpoint: Url | None = None
    """The address of a collector, to which /v1/traces is added."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """Sent with each request, such as a token."""

    @model_validator(mode="after")
    def _is_confidential(self) -> TelemetrySettings:
        if self.headers:
            if self.endpoint is None:
                raise ValueError("headers: set endpoint, too")
            address(self.endpoint)
        return self

    def start(self) -> None:
        """Turn traces on in this process, if wanted. Raises ConfigurationError."""
        headers = {name: value.get_secret_value() for name, value in self.headers.items()}
        start(self.endpoint, headers)


class Span:
    """A step in progress; without traces, it forgets everything."""

    def __init__(self, found: Any = None) -> None:
        self._found = found

    def set(self, name: str, value: Value) -> None:
        if self._found is not None:
            self._found.set_attribute(name, value)

    def fail(self, error: str) -> None:
        """Mark the step as failed; `error` is a type or a status, never a text."""
        if self._found is not None:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415 of the extra

            self._found.set_attribute("error.type", error)
            self._found.set_status(StatusCode.ERROR)


_OFF = Span()


def start(endpoint: str | None = None, headers: Mapping[str, str] | None = None) -> None:
    """Send spans from now on: to `endpoint`, or to that in OpenTelemetry's variables.

    Raises ConfigurationError if an endpoint is given and OpenTelemetry is not installed.
    """
    global _provider, _tracer  # noqa: PLW0603 one per process
    if _tracer is not None or not (endpoint or _is_wanted()):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        if endpoint:
            raise ConfigurationError(f"telemetry: {_MISSING}") from None
        logging.getLogger(__name__).warning("telemetry: %s", _MISSING)
        return
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint}/v1/traces" if endpoint else None,
        headers=dict(headers) if headers else None,
        timeout=_SECONDS,
    )
    about = {"service.version": importlib.metadata.version("auditlake")}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "auditlake"
    _provider = TracerProvider(resource=Resource.create(about))
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("auditlake")


def stop() -> None:
    """Send the spans that wait, and forget where to; the end of the program does so, too."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


def _is_wanted() -> bool:
    """Return whether the variables of OpenTelemetry ask for traces."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    return exporter == "otlp" or any(os.environ.get(name) for name in _ENDPOINTS)


@contextmanager
def span(
    name: str, attributes: Mapping[str, object] | None = None, kind: Kind = "internal"
) -> Iterator[Span]:
    """Trace the block as a part of the span around it; an error that leaves it fails the span."""
    if _tracer is None:
        yield _OFF
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 of the extra

    with _tracer.start_as_current_span(
        name,
        kind=SpanKind[kind.upper()],
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as found:
        begun = Span(found)
        try:
            yield begun
        except BaseException as error:
            begun.fail(type(error).__name__)
            raise
