"""Where traces are sent to, by OpenTelemetry's protocol over HTTP."""

from __future__ import annotations

from pydantic import Field, model_validator

from pipelines import telemetry
from pipelines.settings.fields import Secret, Section, Url, address


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
        telemetry.start(self.endpoint, headers)
