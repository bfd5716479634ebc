"""auditlake.toml and the environment, validated: what is wrong is said in one line a fault."""

from __future__ import annotations

import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipelines.errors import ConfigurationError

Model = TypeVar("Model", bound=BaseModel)

_SHARED = re.compile(r"[A-Za-z0-9._~+/=-]{16,128}")
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _indirect(value: Any) -> Any:
    """A secret given in place, as {env = "VARIABLE"} or as {file = "path"}."""
    match value:
        case {"env": str(name), **rest} if not rest:
            if not os.environ.get(name):
                raise ValueError(f"the environment variable {name} is not set")
            return os.environ[name]
        case {"file": str(name), **rest} if not rest:
            try:
                return Path(name).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot read {name}: {_reason(error)}") from None
        case dict():
            raise ValueError('give it as text, as {env = "VARIABLE"} or as {file = "path"}')
    return value


def _file_or_text(value: Any) -> Any:
    """Like a secret, but bare text is the path of a file."""
    return _indirect({"file": value}) if isinstance(value, str) else _indirect(value)


def _duration(value: Any) -> Any:
    """ "90s", "5m", "30d" -> timedelta."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", value)
    if not found:
        raise ValueError('give a number and a unit, such as "30s", "5m", "12h" or "30d"')
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def _reason(error: Exception) -> str:
    return error.strerror or "?" if isinstance(error, OSError) else "it is not UTF-8 text"


def _not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value():
        raise ValueError("it is empty")
    return value


Secret = Annotated[SecretStr, BeforeValidator(_indirect)]
"""Never shown: not in reprs, logs or errors."""
SecretFile = Annotated[SecretStr, BeforeValidator(_file_or_text)]
"""The contents of a file named by its path."""
Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _address(value: str) -> str:
    """An https address; plain http on loopback only, since a credential travels with it."""
    url = httpx.URL(value)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("it is not an http(s) address")
    if url.scheme == "http" and url.host not in LOOPBACK:
        raise ValueError("plain http is allowed on this machine only: use https")
    if url.userinfo or url.query or url.fragment:
        raise ValueError("it must not hold a user, a query or a fragment")
    return value.rstrip("/")


Address = Annotated[str, BeforeValidator(_address)]


def _long_enough(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _SHARED.fullmatch(value.get_secret_value()):
        raise ValueError(
            "give 16 to 128 letters, digits or any of . _ ~ + / = -, such as `openssl rand -hex 32`"
        )
    return value


SharedSecret = Annotated[Secret | None, AfterValidator(_long_enough)]
"""What a vendor shows with all it pushes; it fits into any header as it is."""


class IntegrationSettings(BaseModel):
    """The keys every kind takes; a kind adds its own in its module."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: str
    base_url: Address
    streams: tuple[str, ...] = ()
    history: Duration | None = None
    poll_every: Duration | None = None
    webhook_secret: SharedSecret = None
    """What the vendor shows with all it pushes; without one, nothing is taken in."""


class LakeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    root: str = "data"
    storage_options: dict[str, Secret] = Field(default_factory=dict)


class Anchor(BaseModel):
    """A place outside the lake that is told each checkpoint; exactly one of the four kinds."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    directory: Path | None = None
    git: Path | None = None
    """A clone: each delivery is a commit, pushed where it has an upstream."""
    url: Address | None = None
    """Checkpoints are PUT below it, and read back with GET."""
    token: Secret | None = None
    bucket: str | None = None
    """Such as s3://bucket/prefix; with object lock it cannot be rewritten."""
    storage_options: dict[str, Secret] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_kind(self) -> Anchor:
        if sum(place is not None for place in self.places) != 1:
            raise ValueError("give one of directory, git, url and bucket")
        return self

    @property
    def places(self) -> tuple[Path | str | None, ...]:
        return (self.directory, self.git, self.url, self.bucket)

    @property
    def name(self) -> str:
        return str(next(place for place in self.places if place))


def _state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "auditlake"


class IntegritySettings(BaseModel):
    """How the lake's tables are signed; `folder` holds what must not lie in the lake."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    sign: bool = True
    name: str = Field(default="auditlake", pattern=r"^[^\s+]+$")
    """The key's name and the first part of each log's; best a domain of yours."""
    folder: Path = Field(default_factory=_state_folder)
    keys: tuple[Secret, ...] = ()
    """Signing keys, all of which sign; default: files in `folder`, made on first use."""
    key_command: tuple[str, ...] = ()
    """A program that prints the signing keys, a line each."""
    trusted: tuple[str, ...] = ()
    """Public keys to be believed beside those of `folder`."""
    anchors: tuple[Anchor, ...] = ()


class Listen(BaseModel):
    """Where a server listens; loopback unless told otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)


class WebhookSettings(Listen):
    """Where pushes arrive, and where they wait until they are in the lake."""

    port: int = Field(default=8600, ge=0, le=65535)
    public_url: Address | None = None
    """What vendors call: https, ended by a proxy; each integration's name follows it."""
    spool: Path | None = None
    """The folder where deliveries wait; default: `spool` in a lake on a disk, else beside keys."""
    spool_megabytes: int = Field(default=1024, ge=1)
    """What may wait there; more is answered so that vendors send it again."""
    spare_megabytes: int = Field(default=256, ge=0)
    """What is left free on that disk."""
    per_second: float = Field(default=200.0, gt=0)
    """Deliveries a second of one integration."""


class Settings(BaseSettings):
    """The whole file; integrations are validated by their kinds."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix="AUDITLAKE_",
        env_nested_delimiter="__",
    )

    lake: LakeSettings = LakeSettings()
    integrity: IntegritySettings = Field(default_factory=IntegritySettings)
    integrations: dict[str, dict[str, Any]] = Field(default_factory=dict, repr=False)
    dagster: Listen = Listen(port=3000)
    dashboard: Listen = Listen(port=8501)
    webhooks: WebhookSettings = WebhookSettings()
    sandbox: Listen = Listen(port=8700)

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

    @field_validator("integrations")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", name):
                raise ValueError(f"{name!r}: use letters, digits, _ and - in a name")
        return value


Via = Literal["poll", "webhook", "backfill"]


def path_from_environment() -> Path:
    return Path(os.environ.get("AUDITLAKE_CONFIG") or "auditlake.toml")


def load(path: Path) -> Settings:
    """Read the file at `path`. Raises ConfigurationError with a line a fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: not found: copy auditlake.example.toml there, "
            "or run `auditlake up` without one to try the sandbox"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {_reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    return validated(Settings, document, str(path))


def validated(model: type[Model], document: dict[str, Any], where: str) -> Model:
    """`document` as `model`. Raises ConfigurationError that names each key, never a value."""
    try:
        return model(**document)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_lines(error, where))) from None


def _lines(error: ValidationError, where: str) -> list[str]:
    lines = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        key = ".".join(str(part) for part in fault["loc"])
        said = {
            "extra_forbidden": "unknown key: correct or remove it",
            "missing": "missing: set it",
        }.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        lines.append(f"{where}: {key}: {said}" if key else f"{where}: {said}")
    return lines
