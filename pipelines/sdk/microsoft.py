"""Settings, sign-in and facts that the logs of Entra ID and Office 365 share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Self

import httpx
from pydantic import Field, field_validator, model_validator

from pipelines.sdk import auth, pasted, values
from pipelines.sdk.tenant import Tenant
from pipelines.settings import Address, IntegrationSettings, Secret

INTERRUPTS = frozenset(
    {16000, 16001, 50055, 50058, 50072, 50074, 50076, 50078, 50079, 50085, 50089, 50097, 50125,
     50127, 50129, 50132, 50133, 50140, 50144, 50158, 50168, 50173, 50199, 50203, 51006, 52004,
     65001, 70008, 70016, 70043, 70044, 70046, 90094, 90095, 700082, 700084, 9002341}
)  # fmt: skip
"""Errors of sign-ins that are to be continued: a second factor, a new password, a confirmation,
consent or a fresh session comes next, and another event follows."""

NEW_CREDENTIAL = (
    "create a new one in the app registration under Certificates & secrets, and set client_secret "
    "or certificate"
)
"""The advice for a client secret or a certificate that expires soon."""

_SCOPES = re.compile(r"Scope: ([^,\]]+)")
_NAMES = (".DisplayName", ".UPN", ".UserPrincipalName", ".Name")
_NO_TARGETS = ("TargetId", "Actor", "AppRole")
_PERMISSIONS = frozenset(
    {"AppRole.Value", "AppRole.DisplayName", "AppRole.Id", "DelegatedPermissionGrant.Scope",
     "ConsentAction.Permissions"}
)  # fmt: skip


class Settings(IntegrationSettings):
    """The settings of an app registration; an integration names the clouds of its API."""

    logins: ClassVar[Mapping[str, str]]
    """The API's address -> that of its sign-in; the commercial cloud first."""
    authority_url: Address
    tenant_id: pasted.TenantId
    client_id: pasted.ClientId
    client_secret: pasted.Token | None = None
    certificate: Secret | None = None

    @field_validator("base_url")
    @classmethod
    def _api(cls, value: str) -> str:
        return pasted.root(value, cls.logins)

    @field_validator("authority_url")
    @classmethod
    def _login(cls, value: str) -> str:
        return pasted.root(value, set(cls.logins.values()))

    @model_validator(mode="after")
    def _one_cloud(self) -> Self:
        pasted.checked_cloud(self.base_url, self.authority_url, self.logins)
        return self

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if not (self.client_secret or self.certificate):
            raise ValueError("not configured: set client_secret or certificate")
        return self


def authority_url(logins: Mapping[str, str]) -> Any:
    """Return the field whose default is the sign-in that belongs to `base_url`."""
    return Field(default_factory=lambda given: pasted.login(given.get("base_url", ""), logins))


def sign_in(settings: Settings) -> httpx.Auth:
    """Return the client-credentials flow, with the scope of the API in its cloud."""
    known = settings.base_url in settings.logins
    api = settings.base_url if known else next(iter(settings.logins))
    return auth.microsoft(
        authority_url=settings.authority_url,
        tenant_id=settings.tenant_id,
        client_id=settings.client_id,
        scope=f"{api}/.default",
        client_secret=settings.client_secret,
        certificate=settings.certificate,
        where=f"{settings.kind}: certificate",
    )


def tenant(settings: Settings, _stream: object) -> Tenant:
    """Return the directory by its ID, or by a domain of it."""
    given = settings.tenant_id.lower()
    name = "tenant_id" if pasted.UUID.fullmatch(given) else "the domain in tenant_id"
    return {name: given}


def is_interrupt(error: Any) -> bool:
    """Return whether an error number, perhaps as text, only interrupts a sign-in."""
    try:
        return int(error) in INTERRUPTS
    except (TypeError, ValueError, OverflowError):
        return False


def email(name: Any) -> str | None:
    """Return the e-mail in a user principal name or a name that SharePoint gives to a user.

    Guests are ann_fabrikam.example#EXT#@contoso.onmicrosoft.com; in SharePoint guests may be
    urn:spo:guest#ann@fabrikam.example, and members i:0#.f|membership|ann@contoso.example.
    """
    if not isinstance(name, str) or "@" not in name:
        return None
    if "#" not in name and "|" not in name:
        return name
    bare = name.rpartition("|")[2].replace("%3a", ":")
    if bare.lower().startswith("urn:spo:"):
        bare = bare.partition("#")[2]
    home, guest, _ = bare.partition("#EXT#")
    before, _, domain = home.rpartition("_")
    return f"{before}@{domain}" if guest and before else bare


def unquoted(value: Any) -> str | None:
    """Return the text of a value in a change list, which is JSON text such as "\\"Admins\\""."""
    if not isinstance(value, str):
        return None
    return value.strip().removeprefix("[").removesuffix("]").strip().strip('"') or None


def changes(properties: Any, name: str, new: str, old: str) -> dict[str, str]:
    """Return the names in a list of changes: "Role.DisplayName" -> its new value, or else the old.

    `name`, `new` and `old` are the keys of the log for the three parts of a change.
    """
    found = {}
    for change in values.objects(properties):
        key = change.get(name)
        if isinstance(key, str) and _names_something(key):
            value = unquoted(change.get(new)) or unquoted(change.get(old))
            if value:
                found[key] = value
    return found


@lru_cache(maxsize=4096)
def _names_something(key: str) -> bool:
    return key.endswith((*_NAMES, ".ObjectID")) or key in _PERMISSIONS


def name_by_changes(found: list[dict[str, Any]], changed: Mapping[str, str]) -> None:
    """Name the targets that a list of changes names, and append those that it alone contains."""
    for key, name in changed.items():
        kind = key.partition(".")[0]
        if key.endswith(_NAMES) and kind not in _NO_TARGETS:
            id_ = changed.get(f"{kind}.ObjectID")
            target = _target(found, id_, kind)
            if target is None:
                found.append({"id": id_, "name": name, "type": kind})
            elif not target["name"]:
                target["name"] = name
    found += _permissions(changed)


def _target(found: list[dict[str, Any]], id_: str | None, kind: str) -> dict[str, Any] | None:
    """Return the target with this id, or else the only one of this kind that may be meant."""
    for target in found:
        if id_ and target["id"] == id_:
            return target
    alike = [t for t in found if t["type"] == kind and not (id_ and t["id"])]
    return alike[0] if len(alike) == 1 else None


def _permissions(changed: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the application role or the permissions that somebody gets or loses."""
    found = []
    if role := changed.get("AppRole.Value") or changed.get("AppRole.DisplayName"):
        found.append({"id": changed.get("AppRole.Id"), "name": role, "type": "AppRole"})
    scopes = (changed.get("DelegatedPermissionGrant.Scope") or "").split()
    for scope in _SCOPES.findall(changed.get("ConsentAction.Permissions") or ""):
        scopes += scope.split()
    found += [{"id": None, "name": s, "type": "Permission"} for s in dict.fromkeys(scopes)]
    return found
