"""The section [alerts] of the settings: who is alerted, where and when."""

from __future__ import annotations

import re
from datetime import time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from pipelines.settings.fields import (
    UNREAD,
    Address,
    Duration,
    Secret,
    Section,
    Url,
    address,
    is_loopback,
)

Level = Literal["informational", "low", "medium", "high", "critical"]
LEVELS: tuple[Level, ...] = ("informational", "low", "medium", "high", "critical")
"""From the least to the most severe."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_MAILBOX = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_SIGNING = re.compile(r"(?:whsec_)?[A-Za-z0-9+/]{32,88}={0,2}")


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('not a known time zone: give one such as "Europe/Berlin"') from None
    return value


def _clock(value: object) -> object:
    """Return "08:00" as a time."""
    if not isinstance(value, str):
        return value
    if not _CLOCK.fullmatch(value):
        raise ValueError('give a time of day such as "08:00"')
    return time.fromisoformat(value)


def _secret_address(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if text != UNREAD:
        # A query may hold the secret, so it is allowed here, unlike in other addresses.
        address(text.partition("?")[0])
    return SecretStr(text)


def _mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value):
        raise ValueError('give an address such as "security@example.com"')
    return value


def _signing(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text != UNREAD and not _SIGNING.fullmatch(text):
        raise ValueError(
            "give 24 to 64 bytes in base64, such as `openssl rand -base64 32`; whsec_ may precede"
        )
    return value


def _apprise(value: SecretStr) -> SecretStr:
    if re.search(r"[?&]verify=(?!yes|true|1)", value.get_secret_value(), re.IGNORECASE):
        raise ValueError("verify: TLS is always verified: remove it")
    return value


Zone = Annotated[str, AfterValidator(_zone)]
Clock = Annotated[time, BeforeValidator(_clock)]
SecretAddress = Annotated[Secret, AfterValidator(_secret_address)]
"""An https address that is a secret itself."""
Mailbox = Annotated[str, AfterValidator(_mailbox)]


class QuietHours(Section):
    """The time of day when only urgent alerts are sent; the others wait until it is over."""

    since: Clock
    until: Clock
    unless: Level = "critical"
    """Alerts of at least this level are sent at once."""


class _Receiver(Section):
    time_zone: Zone | None = None
    quiet_hours: QuietHours | None = None
    per_hour: int = Field(default=30, ge=1)
    """The most alerts per hour; the rest is summed up in one."""


class WebhookReceiver(_Receiver):
    """Any program that verifies https://www.standardwebhooks.com signatures."""

    kind: Literal["webhook"]
    url: SecretAddress
    secret: Annotated[Secret, AfterValidator(_signing)]


class SlackReceiver(_Receiver):
    """An incoming webhook, which posts to one channel."""

    kind: Literal["slack"]
    url: SecretAddress


class EmailReceiver(_Receiver):
    kind: Literal["email"]
    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None
    sender: Mailbox
    to: tuple[Mailbox, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_confidential(self) -> EmailReceiver:
        if self.tls == "none" and not is_loopback(self.host):
            raise ValueError('tls: "none" is allowed for loopback addresses only')
        if (self.user is None) != (self.password is None):
            raise ValueError("set both user and password, or neither")
        return self


class PagerDutyReceiver(_Receiver):
    """A service's integration of the kind Events API v2."""

    kind: Literal["pagerduty"]
    routing_key: Secret
    url: Address = "https://events.pagerduty.com/v2/enqueue"


class OpsgenieReceiver(_Receiver):
    """Opsgenie or, with another `url`, Jira Service Management."""

    kind: Literal["opsgenie"]
    api_key: Secret
    url: Address = "https://api.opsgenie.com/v2/alerts"


class JiraReceiver(_Receiver):
    """One issue per alert in a project of Jira Cloud, or of Jira Data Center."""

    kind: Literal["jira"]
    url: Address
    data_center: bool = False
    user: Mailbox | None = None
    """The owner of the token; of Jira Cloud only."""
    api_token: Secret
    """Of Jira Data Center, a personal access token."""
    project: str = Field(pattern=r"^[A-Z][A-Z0-9_]{0,30}$")
    issue_type: str = Field(default="Task", min_length=1)

    @model_validator(mode="after")
    def _has_the_user_it_needs(self) -> JiraReceiver:
        if self.data_center and self.user is not None:
            raise ValueError("user: remove it: Data Center knows the owner of the token")
        if not self.data_center and self.user is None:
            raise ValueError("user: give the owner of the token, or data_center = true")
        return self


class AppriseReceiver(_Receiver):
    """Services that only Apprise knows: https://github.com/caronc/apprise/wiki."""

    kind: Literal["apprise"]
    urls: tuple[Annotated[Secret, AfterValidator(_apprise)], ...] = Field(min_length=1)


Receiver = Annotated[
    WebhookReceiver
    | SlackReceiver
    | EmailReceiver
    | PagerDutyReceiver
    | OpsgenieReceiver
    | JiraReceiver
    | AppriseReceiver,
    Field(discriminator="kind"),
]


class Route(Section):
    """Alerts for some receivers; every route that matches applies."""

    receivers: tuple[str, ...] = Field(min_length=1)
    level: Level = "medium"
    """The least level."""
    integrations: tuple[str, ...] = ()
    """Names or kinds; default: all."""
    tags: tuple[str, ...] = ()
    """Any of these, such as "attack.t1098", or all below one, such as "attack.*"."""
    about: tuple[Literal["findings", "health"], ...] = ("findings", "health")
    digest: bool = False
    """Whether it waits for the daily digest."""


class AlertSettings(Section):
    alert_within: Duration = timedelta(hours=24)
    """Findings of older events are in the digest only."""
    group_within: Duration = timedelta(hours=1)
    """Findings of one rule about one entity that come within this time are one alert."""
    update_every: Duration = timedelta(minutes=10)
    """The shortest time between two messages about one alert."""
    give_up_after: Duration = timedelta(days=2)
    """How long a message that could not be delivered is retried."""
    digest_at: Clock = time(8)
    time_zone: Zone = "UTC"
    dashboard: Url | None = None
    """The dashboard's address, for links."""
    heartbeat: SecretAddress | None = None
    """The address of a dead-man's switch, requested after each pass that succeeds."""
    heartbeat_every: Duration = timedelta(minutes=5)
    receivers: dict[str, Receiver] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    """Default: level medium and more to all receivers."""

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> AlertSettings:
        for name in self.receivers:
            if not _NAME.fullmatch(name):
                raise ValueError(f"receivers: {name!r}: use letters, digits, _ and - in a name")
        named = {name for route in self.routes for name in route.receivers}
        if unknown := sorted(named - self.receivers.keys()):
            raise ValueError(f"routes: no receiver is named {unknown[0]!r}")
        return self

    @property
    def is_used(self) -> bool:
        """Return whether anybody is to be alerted."""
        return bool(self.receivers) or self.heartbeat is not None

    @property
    def effective_routes(self) -> tuple[Route, ...]:
        if self.routes or not self.receivers:
            return self.routes
        return (Route(receivers=tuple(self.receivers)),)

    def zone(self, receiver: str) -> ZoneInfo:
        """Return the time zone of a receiver."""
        return ZoneInfo(self.receivers[receiver].time_zone or self.time_zone)
