"""Access control: on loopback every local user, elsewhere users who sign in and are authorised.

Streamlit handles sign-in (OpenID Connect, `[auth]` in its secrets). `[auditlake]` in the same file
defines who is authorised, and which integrations their groups may see. Both are enforced below
every page: without a rule nobody is authorised, and where there are roles, nobody without one.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboard.sight import EVERYTHING, NOTHING, Sight
from pipelines.errors import ConfigurationError
from pipelines.settings import is_loopback

_SHORTEST, _FEWEST = 32, 10  # characters, and different ones
_ALL = "*"
_FORM = 'give each group a list of integrations, such as helpdesk = ["okta"], or ["*"] for all'
_PLACEHOLDER = r"change[-_ ]?(?:me|this|it)|replace[-_ ]?(?:me|this)|your[-_ ]?secret|password"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Members of any of these groups are authorised, and verified addresses in these domains.

    `roles` has the integrations that members of a group may see, all of them for "*"; without
    roles, None, everyone who is authorised sees everything.
    """

    groups: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    claim: str = "groups"
    roles: Mapping[str, frozenset[str]] | None = None


class NotSignedIn(Exception):
    """Sign-in is required."""


class Refused(Exception):
    """Signed in but not authorised; the message is the user's name."""


class Exposed(Exception):
    """The server is reachable from other machines without sign-in."""


def rules(secrets: Mapping[str, Any]) -> Rules:
    """Return the rules in `[auditlake]` of Streamlit's secrets.

    Raises ConfigurationError if the roles are not understood.
    """
    section = secrets.get("auditlake", {})
    return Rules(
        groups=frozenset(section.get("allowed_groups", ())),
        domains=frozenset(domain.lower() for domain in section.get("allowed_domains", ())),
        claim=section.get("groups_claim", "groups"),
        roles=_roles(section["roles"]) if "roles" in section else None,
    )


def _roles(section: Any) -> dict[str, frozenset[str]]:
    if not isinstance(section, Mapping):
        raise ConfigurationError(f"auditlake.roles: {_FORM}")
    for group, names in section.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigurationError(f"auditlake.roles: {group}: {_FORM}")
    return {group: frozenset(names) for group, names in section.items()}


def sight(secrets: Mapping[str, Any], claims: Mapping[str, Any]) -> Sight:
    """Return which integrations the groups of a sign-in may see. Raises ConfigurationError."""
    known = rules(secrets)
    # Without sign-in there are no groups: users of this machine see everything.
    if known.roles is None or "auth" not in secrets:
        return EVERYTHING
    seen = frozenset[str]().union(
        *(known.roles[group] for group in known.roles.keys() & _groups(claims, known))
    )
    return EVERYTHING if _ALL in seen else Sight(integrations=seen)


def belongs(claims: Mapping[str, Any], rules: Rules) -> bool:
    """Return True if the claims of a sign-in satisfy a rule; an address has to be verified."""
    groups = _groups(claims, rules)
    _, at, domain = str(claims.get("email") or "").rpartition("@")
    # Exactly True: the string "false" is true to Python.
    verified = bool(at) and claims.get("email_verified") is True
    return bool(groups & rules.groups) or (verified and domain.lower() in rules.domains)


def exposed(secrets: Mapping[str, Any], listens_on: str | None) -> bool:
    """Return True if the server is reachable from other machines without sign-in."""
    return "auth" not in secrets and not is_loopback(listens_on or "")


def _groups(claims: Mapping[str, Any], rules: Rules) -> set[str]:
    named = claims.get(rules.claim) or ()
    # Some providers send a single group as a plain string.
    return {named} if isinstance(named, str) else set(named)


def admitted(secrets: Mapping[str, Any], user: Mapping[str, Any], listens_on: str | None) -> str:
    """Return the user's name. Raises NotSignedIn, Refused or Exposed."""
    if exposed(secrets, listens_on):
        raise Exposed
    # Local users cannot be distinguished: all are the account that runs the server.
    if "auth" not in secrets:
        return getpass.getuser()
    if not user.get("is_logged_in"):
        raise NotSignedIn
    who = name(user)
    if not belongs(user, rules(secrets)) or sight(secrets, user) == NOTHING:
        raise Refused(who)
    return who


def name(claims: Mapping[str, Any]) -> str:
    """Return the address of a sign-in, and its subject and issuer, which nobody else ever gets."""
    identity = " at ".join(str(claims[key]) for key in ("sub", "iss") if claims.get(key))
    address = str(claims.get("email") or "")
    return f"{address} ({identity})" if address and identity else address or identity or "unnamed"


def refusal(secrets: Mapping[str, Any], listens_on: str | None) -> str | None:
    """Return the reason not to start the server, and the remedy, or None."""
    if reason := weakness(secrets):
        return (
            f"start: auth.cookie_secret can be guessed: {reason}: set it to the output of: "
            'python -c "import secrets; print(secrets.token_urlsafe(48))"'
        )
    if reason := _unclear(secrets):
        return f"start: {reason}"
    if exposed(secrets, listens_on):
        return (
            f"listen on {listens_on or 'all addresses'} without sign-in: "
            "set dashboard.host to 127.0.0.1, or configure sign-in (docs/dashboard.md)"
        )
    return None


def _unclear(secrets: Mapping[str, Any]) -> str | None:
    """Return why the roles cannot be enforced, or None."""
    try:
        known = rules(secrets)
    except ConfigurationError as error:
        return str(error)
    if known.roles is not None and "auth" not in secrets:
        return "auditlake.roles needs sign-in: add [auth] (docs/dashboard.md), or remove the roles"
    return None


def weakness(secrets: Mapping[str, Any]) -> str | None:
    """Return why others could guess the secret that signs the cookies, or None."""
    secret = str(secrets.get("auth", {}).get("cookie_secret", ""))
    if not secret:
        return None  # Streamlit refuses to sign anybody in
    if len(secret) < _SHORTEST:
        return f"it has {len(secret)} characters, fewer than {_SHORTEST}"
    if (secret + secret).find(secret, 1) < len(secret) or len(set(secret)) < _FEWEST:
        return "it repeats itself"
    if re.search(_PLACEHOLDER, secret, re.IGNORECASE):
        return "it is a placeholder"
    return None
