"""Who may look: on loopback whoever can reach it, otherwise people who sign in and belong.

Signing in is Streamlit's (OpenID Connect, `[auth]` in its secrets); whether somebody belongs is
said by `[auditlake]` beside it and decided here, below every page. Without a rule nobody belongs.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Whom to let in: members of any of these groups, and owners of these domains' addresses."""

    groups: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    claim: str = "groups"


class NotSignedIn(Exception):
    """Somebody has to sign in first."""


class Refused(Exception):
    """Somebody who signed in does not belong; the text is his name."""


class Exposed(Exception):
    """The server can be reached from elsewhere and asks nobody to sign in."""


def rules(secrets: Mapping[str, Any]) -> Rules:
    """`[auditlake]` of Streamlit's secrets."""
    said = secrets.get("auditlake", {})
    return Rules(
        groups=frozenset(said.get("allowed_groups", ())),
        domains=frozenset(domain.lower() for domain in said.get("allowed_domains", ())),
        claim=said.get("groups_claim", "groups"),
    )


def belongs(claims: Mapping[str, Any], rules: Rules) -> bool:
    """Do the claims of a sign-in satisfy any rule? An address counts only where it is verified."""
    named = claims.get(rules.claim) or ()
    groups = {named} if isinstance(named, str) else set(named)
    _, at, domain = str(claims.get("email") or "").rpartition("@")
    verified = bool(at) and claims.get("email_verified") is True
    return bool(groups & rules.groups) or (verified and domain.lower() in rules.domains)


def exposed(secrets: Mapping[str, Any], listens_on: str | None) -> bool:
    """Can others reach the server, while it asks nobody to sign in?"""
    return "auth" not in secrets and listens_on not in LOOPBACK


def admitted(secrets: Mapping[str, Any], user: Mapping[str, Any], listens_on: str | None) -> str:
    """The name of whoever is asking. Raises NotSignedIn, Refused or Exposed."""
    if exposed(secrets, listens_on):
        raise Exposed
    if "auth" not in secrets:
        return getpass.getuser()
    if not user.get("is_logged_in"):
        raise NotSignedIn
    who = str(user.get("email") or user.get("sub") or "somebody without a name")
    if not belongs(user, rules(secrets)):
        raise Refused(who)
    return who
