"""Access control: on loopback every local user, elsewhere users who sign in and are authorised.

Streamlit handles sign-in (OpenID Connect, `[auth]` in its secrets). `[auditlake]` in the same file
defines who is authorised, which is enforced here, below every page. Without a rule nobody is.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.settings import is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Members of any of these groups are authorised, and verified addresses in these domains."""

    groups: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    claim: str = "groups"


class NotSignedIn(Exception):
    """Sign-in is required."""


class Refused(Exception):
    """Signed in but not authorised; the message is the user's name."""


class Exposed(Exception):
    """The server is reachable from other machines without sign-in."""


def rules(secrets: Mapping[str, Any]) -> Rules:
    """Return the rules in `[auditlake]` of Streamlit's secrets."""
    section = secrets.get("auditlake", {})
    return Rules(
        groups=frozenset(section.get("allowed_groups", ())),
        domains=frozenset(domain.lower() for domain in section.get("allowed_domains", ())),
        claim=section.get("groups_claim", "groups"),
    )


def belongs(claims: Mapping[str, Any], rules: Rules) -> bool:
    """Return True if the claims of a sign-in satisfy a rule; an address has to be verified."""
    named = claims.get(rules.claim) or ()
    # Some providers send a single group as a plain string.
    groups = {named} if isinstance(named, str) else set(named)
    _, at, domain = str(claims.get("email") or "").rpartition("@")
    # Exactly True: the string "false" is true to Python.
    verified = bool(at) and claims.get("email_verified") is True
    return bool(groups & rules.groups) or (verified and domain.lower() in rules.domains)


def exposed(secrets: Mapping[str, Any], listens_on: str | None) -> bool:
    """Return True if the server is reachable from other machines without sign-in."""
    return "auth" not in secrets and not is_loopback(listens_on or "")


def admitted(secrets: Mapping[str, Any], user: Mapping[str, Any], listens_on: str | None) -> str:
    """Return the user's name. Raises NotSignedIn, Refused or Exposed."""
    if exposed(secrets, listens_on):
        raise Exposed
    # Local users cannot be distinguished: all are the account that runs the server.
    if "auth" not in secrets:
        return getpass.getuser()
    if not user.get("is_logged_in"):
        raise NotSignedIn
    who = str(user.get("email") or user.get("sub") or "unnamed user")
    if not belongs(user, rules(secrets)):
        raise Refused(who)
    return who
