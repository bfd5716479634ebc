"""Settings from auditlake.toml and the environment, validated with one line per error."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipelines.errors import ConfigurationError, faults
from pipelines.settings.alerts import AlertSettings
from pipelines.settings.detections import DetectionSettings
from pipelines.settings.fields import (
    UNREAD,
    Address,
    Duration,
    Proxy,
    Secret,
    SecretFile,
    Section,
    SharedSecret,
    StorageOptions,
    Url,
    address,
    is_loopback,
    reason,
)
from pipelines.settings.folders import path_from_environment, state_folder
from pipelines.settings.retention import RetentionSettings
from pipelines.settings.telemetry import TelemetrySettings

# Integrations and other packages get them from here.
__all__ = ["UNREAD", "Address", "Duration", "Secret", "SecretFile", "is_loopback"]

Model = TypeVar("Model", bound=BaseModel)


class IntegrationSettings(Section):
    """The keys common to every kind; each integration adds its own in its module."""

    kind: str
    base_url: Address
    streams: tuple[str, ...] = ()
    history: Duration | None = None
    poll_every: Duration | None = None
    page_megabytes: int = Field(default=64, ge=1)
    """The most that one response may contain, unpacked; a larger one is not read."""
    record_megabytes: int = Field(default=16, ge=1)
    """The most that one record may contain; larger ones are rejected."""
    ca_bundle: Path | None = None
    """A PEM file of certificates to trust in addition to the public ones."""
    proxy: Proxy = None
    webhook_secret: SharedSecret = None
    """The secret the vendor sends with each push; without it, no push is accepted."""


class LakeSettings(Section):
    root: str = "data"
    group: str | None = None
    """The group that may read a lake in a local folder; by default only its owner."""
    storage_options: StorageOptions = Field(default_factory=dict)


class NetworkSettings(Section):
    """The way to the services; an integration may have its own."""

    ca_bundle: Path | None = None
    proxy: Proxy = None


class Anchor(Section):
    """A place outside the lake that receives each checkpoint; exactly one of the four kinds."""

    directory: Path | None = None
    git: Path | None = None
    """A clone; each checkpoint is committed, and pushed if the branch has an upstream."""
    url: Address | None = None
    """Base address: checkpoints are PUT below it and read back with GET."""
    token: Secret | None = None
    bucket: str | None = None
    """Such as s3://bucket/prefix; with object lock, nobody can rewrite it."""
    storage_options: StorageOptions = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> Anchor:
        if sum(place is not None for place in self.places) != 1:
            raise ValueError("set exactly one of directory, git, url and bucket")
        return self

    @property
    def places(self) -> tuple[Path | str | None, ...]:
        return (self.directory, self.git, self.url, self.bucket)

    @property
    def name(self) -> str:
        return str(next(place for place in self.places if place))


class Witness(Section):
    """An independent party that cosigns checkpoints: https://c2sp.org/tlog-witness."""

    url: Address
    """The prefix of its addresses, for submitting checkpoints and for reading them."""
    key: str = Field(pattern=r"^[^\s+]+\+[0-9a-f]{8}\+B[A-Za-z0-9+/]{43}$")
    """Its public key, as it prints it: name+id+base64, where the type of the key is 4."""

    @property
    def name(self) -> str:
        return self.key.partition("+")[0]


class IntegritySettings(Section):
    """How the lake's tables are signed; `folder` contains keys, which must not be in the lake."""

    sign: bool = True
    name: str = Field(default="auditlake", pattern=r"^[^\s+]+$")
    """The key's name and the prefix of each log's name; preferably a domain you own."""
    folder: Path = Field(default_factory=state_folder)
    keys: tuple[Secret, ...] = ()
    """Signing keys, all of which sign; default: files in `folder`, created on first use."""
    key_command: tuple[str, ...] = ()
    """A command that prints the signing keys, one per line."""
    trusted: tuple[str, ...] = ()
    """Public keys to trust in addition to those in `folder`."""
    anchors: tuple[Anchor, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    """The way to anchors and witnesses; by default that of the whole configuration."""
    quorum: int | None = Field(default=None, ge=1)
    """How many of them must have seen a checkpoint an hour after it was signed; default: all."""

    @model_validator(mode="after")
    def _enough_witnesses(self) -> IntegritySettings:
        if len({witness.key for witness in self.witnesses}) < max(
            len(self.witnesses), self.quorum or 0
        ):
            raise ValueError("quorum: name at least as many witnesses, each with a key of its own")
        return self


class Listen(Section):
    """The address a server listens on; loopback by default."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)

    @property
    def address(self) -> str:
        """Its URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


_NAME = re.compile(r"(?:[a-z0-9-]+\.)*[a-z0-9-]+\.?(?::\d{1,5})?|\[[0-9a-f:.]+\](?::\d{1,5})?")


def _host_name(value: str) -> str:
    name = value.strip().lower()
    if not _NAME.fullmatch(name):
        raise ValueError('give names such as "audit.example.com", with a port other than 443')
    return name


class Site(Listen):
    """A server that browsers use."""

    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    """Its public names, such as that of a proxy; loopback and `host` are always allowed."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset({self.host, *self.allowed_hosts})


class DagsterSettings(Site):
    """Dagster's web server, or the way to one that runs elsewhere."""

    port: int = Field(default=3000, ge=0, le=65535)
    url: Url | None = None
    """The address to report pushes to; default: that of `host` and `port`."""
    token: Secret | None = None
    """Sent with each report: as `Authorization: Bearer`, or as Dagster+ expects it."""
    in_process: bool = False
    """Whether a run does its steps in its own process, whatever the deployment's executor."""
    dedicated: bool = False
    """Whether nothing else runs in this Dagster, so that its old history may be deleted."""

    @model_validator(mode="after")
    def _is_confidential(self) -> DagsterSettings:
        if self.token:
            address(self.url or self.address)
            if not re.fullmatch("[!-~]+", self.token.get_secret_value()):
                raise ValueError("token: give ASCII characters without spaces")
        return self


class DashboardSettings(Site):
    """The dashboard's server."""

    port: int = Field(default=8501, ge=0, le=65535)


class SandboxSettings(Site):
    """The server of the sandbox."""

    port: int = Field(default=8700, ge=0, le=65535)


class MetricsSettings(Site):
    """The server of metrics for Prometheus."""

    port: int = Field(default=8620, ge=0, le=65535)
    enabled: bool = False
    """Whether `auditlake up` starts it."""


class WebhookSettings(Listen):
    """The webhook receiver, and the spool where deliveries wait until they are in the lake."""

    port: int = Field(default=8600, ge=0, le=65535)
    public_url: Address | None = None
    """The https address vendors call, terminated by a proxy; each integration's name follows."""
    spool: Path | None = None
    """The spool directory; default: `spool` in a local lake, otherwise next to the keys."""
    spool_megabytes: int = Field(default=1024, ge=1)
    """Limit of the spool; once it is full, deliveries get a status that makes vendors retry."""
    spare_megabytes: int = Field(default=256, ge=0)
    """Free space to leave on the spool's disk."""
    per_second: float = Field(default=200.0, gt=0)
    """The most deliveries per second accepted for one integration."""
    trusted_proxies: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Proxies whose X-Forwarded-For names the sender, for limits per address."""


class Settings(BaseSettings):
    """The whole configuration; each integration is validated by its kind's own settings."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix="AUDITLAKE_",
        env_nested_delimiter="__",
    )

    lake: LakeSettings = LakeSettings()
    network: NetworkSettings = Field(default_factory=NetworkSettings)
    integrity: IntegritySettings = Field(default_factory=IntegritySettings)
    retention: RetentionSettings = RetentionSettings()
    detections: DetectionSettings = DetectionSettings()
    alerts: AlertSettings = AlertSettings()
    integrations: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)
    dagster: DagsterSettings = DagsterSettings()
    dashboard: DashboardSettings = DashboardSettings()
    webhooks: WebhookSettings = WebhookSettings()
    metrics: MetricsSettings = MetricsSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    sandbox: SandboxSettings = SandboxSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # AUDITLAKE_LAKE__ROOT wins over the file

    @model_validator(mode="after")
    def _share_network(self) -> Settings:
        if "network" not in self.integrity.model_fields_set:
            shared = self.integrity.model_copy(update={"network": self.network})
            object.__setattr__(self, "integrity", shared)  # the section itself is frozen
        return self

    def polls(self, key: tuple[str, str]) -> bool:
        """Return whether the stream (integration, stream) is configured."""
        integration, stream = key
        if integration not in self.integrations:
            return False
        chosen = self.integrations[integration].get("streams")
        return not (isinstance(chosen, list) and chosen) or stream in chosen

    @field_validator("integrations")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            # Names become directory, table and Dagster asset names.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
                raise ValueError(f"{name!r}: use letters, digits, _ and - in a name")
        return value


Via = Literal["poll", "webhook", "backfill"]


def load(path: Path) -> Settings:
    """Return the settings in `path`. Raises ConfigurationError with one line per error."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: not found: begin with the output of `auditlake example`; to try the sandbox, "
            "run `auditlake up` without one, and other commands with --config .dagster/sandbox.toml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    return validated(Settings, document, str(path))


def found() -> Settings:
    """Return the settings in the file that AUDITLAKE_CONFIG names; without it, the environment's.

    Raises ConfigurationError.
    """
    path = path_from_environment()
    return load(path) if path.exists() else from_environment()


def public_names(server: Literal["dagster", "dashboard"]) -> frozenset[str]:
    """Return the host names of a server; none if the settings are invalid, which its pages show."""
    try:
        chosen = found()
    except ConfigurationError:
        return frozenset()
    return chosen.dagster.names if server == "dagster" else chosen.dashboard.names


def from_environment() -> Settings:
    """Return the settings of the environment alone, without a file."""
    return validated(Settings, {}, "environment")


def validated(
    model: type[Model], document: dict[str, Any], where: str, *, secrets: bool = True
) -> Model:
    """Return `document` as a `model`. Raises ConfigurationError, which never shows a value.

    Without `secrets`, those in files and in the environment are not read.
    """
    try:
        return model(**document) if secrets else model.model_validate(document, context=UNREAD)
    except ValidationError as error:
        raise ConfigurationError("\n".join(faults(error, where))) from None
