"""Ready searches: the questions of most investigations, as views over the events of all vendors.

Each is a search in the query language, by the vendors' own names of actions, and names its limits.
Some correlate events as well: `detections` lists these findings above the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from dashboard import detections
from dashboard.queries import Query

KINDS = {
    "atlassian": "Atlassian",
    "cloudflare": "Cloudflare",
    "entra_id": "Entra ID",
    "google_workspace": "Google Workspace",
    "jumpcloud": "JumpCloud",
    "office_365": "Office 365",
    "okta": "Okta",
    "opsgenie": "Opsgenie",
}
_ALL = frozenset(KINDS)
_LOCATED = frozenset({"atlassian", "entra_id", "google_workspace", "jumpcloud", "okta"})
_SIGN_INS = "activity_type:Authentication action_type:Logon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A search with its purpose and limits."""

    title: str
    about: str
    text: str
    kinds: frozenset[str]
    """The vendors that record the fact."""
    limits: tuple[str, ...]
    find: Callable[[pl.LazyFrame, Query], pl.DataFrame] | None = None
    """Events -> findings, as `detections` describes them."""

    def unseen(self) -> list[str]:
        """Return a sentence per limit of this search."""
        lacking = [KINDS[kind] for kind in sorted(_ALL - self.kinds)]
        names = f"{', '.join(lacking[:-1])} and {lacking[-1]}" if lacking[1:] else "".join(lacking)
        return [
            *([f"{names} {'do' if lacking[1:] else 'does'} not record this."] * bool(lacking)),
            *self.limits,
        ]


def _of(facts: Mapping[str, str]) -> str:
    """Return the search for events of each vendor that match its part."""
    return " OR ".join(f"(kind:{kind} {part})" for kind, part in facts.items())


_ADMIN = {
    "atlassian": "action:(added_org_admin, user_granted_role, group_granted_admin_access)",
    "cloudflare": "(action:(member_add, *role*add*, *add*role*) OR "
    "message:(Add*Member*, Update*Member*, *Role*))",
    "entra_id": "action:(Add*member*to*role*, *elevate*access*, "
    "Add*app*role*assignment*to*service*principal*)",
    "google_workspace": "action:(ASSIGN_ROLE, GRANT_ADMIN_PRIVILEGE, "
    "GRANT_DELEGATED_ADMIN_PRIVILEGES, ADD_PRIVILEGE)",
    "jumpcloud": "action:(user_admin_granted, user_group_admin_grant, admin_create)",
    "office_365": "action:(Add*member*to*role*, Add-RoleGroupMember, "
    "New-ManagementRoleAssignment, SiteCollectionAdminAdded, "
    "Add*app*role*assignment*to*service*principal*)",
    "okta": "action:(user.account.privilege.grant, user.privileged_account.privilege.grant, "
    "group.privilege.grant, iam.resourceset.bindings.add, app.oauth2.client.privilege.grant, "
    "workflows.user.role.*.add)",
    "opsgenie": "action:User*role*",
}
_MFA = {
    "atlassian": 'action_type:"MFA Factor Disable"',
    "entra_id": 'action_type:"MFA Factor Disable"',
    "google_workspace": '(action_type:"MFA Factor Disable" OR action:*STRONG_AUTHENTICATION*)',
    "jumpcloud": 'action_type:"MFA Factor Disable"',
    "office_365": 'action_type:"MFA Factor Disable"',
    "okta": '(action_type:"MFA Factor Disable" OR action:system.mfa.factor.deactivate)',
}
_OAUTH = {
    "entra_id": "action:(Consent*to*application*, Add*delegated*permission*grant*, "
    "Add*OAuth2PermissionGrant*, Add*app*role*assignment*to*service*principal*)",
    "google_workspace": "action:(authorize, AUTHORIZE_API_CLIENT_ACCESS)",
    "office_365": "action:(Consent*to*application*, Add*delegated*permission*grant*, "
    "Add*OAuth2PermissionGrant*, Add*app*role*assignment*to*service*principal*)",
    "okta": "action:(app.oauth2.*consent.grant, app.oauth2.client.privilege.grant)",
}
_KEYS = {
    "atlassian": "action:(*token*created*, *api_key*created*)",
    "cloudflare": "(action:(token_create, token_roll, rotate_API_key) OR "
    "message:(Create*Token*, Roll*Token*, *API*Key*))",
    "entra_id": "action:(Add*service*principal*credentials*, *Certificates*and*secrets*)",
    "google_workspace": "action:AUTHORIZE_API_CLIENT_ACCESS",
    "office_365": "action:(Add*service*principal*credentials*, *Certificates*and*secrets*)",
    "okta": "action:(system.api_token.create, app.oauth2.credentials.lifecycle.create)",
    "opsgenie": "action:(API*key*created*, API*key*added*)",
}
_MAIL = {
    "google_workspace": "action:(*email_forwarding*, *mail*delegat*, *delegat*mail*)",
    "office_365": "action:(New-InboxRule, Set-InboxRule, UpdateInboxRules, Set-Mailbox, "
    "New-TransportRule, Set-TransportRule, Add-MailboxPermission, Add-RecipientPermission, "
    "Add-MailboxFolderPermission, AddFolderPermissions, UpdateCalendarDelegation)",
}
_AUDIT = {
    "atlassian": "action:(authentication_policy_*, *audit_log*, *policy_updated*)",
    "cloudflare": "(action:(firewall_rule_disable, firewall_rule_delete, *logpush*) OR "
    "message:(Disable*Firewall*, Delete*Firewall*, *Logpush*))",
    "entra_id": "action:(*conditional*access*policy*, *named*location*, *diagnostic*setting*, "
    "*authorization*policy*, *authentication*method*policy*)",
    "google_workspace": "action:(CHANGE_APPLICATION_SETTING, CREATE_APPLICATION_SETTING, "
    "DELETE_APPLICATION_SETTING, *STRONG_AUTHENTICATION*)",
    "jumpcloud": "action:(authpolicy_*, policy_update, policy_delete)",
    "office_365": "action:(Set-AdminAuditLogConfig, Set-MailboxAuditBypassAssociation, "
    "*AuditLogRetentionPolicy, Set-DlpCompliancePolicy, Remove-DlpCompliancePolicy, "
    "Set-OrganizationConfig)",
    "okta": "(action:(policy.lifecycle.*, policy.rule.*, system.log_stream.*, zone.*, "
    "event_hook.*) -action:event_hook.delivery)",
    "opsgenie": "action:(Policy*disabled*, Policy*deleted*)",
}

SEARCHES: dict[str, Ready] = {
    "admin-rights": Ready(
        title="Admin rights granted",
        about="Roles and privileges given to users, groups and applications.",
        text=_of(_ADMIN),
        kinds=frozenset(_ADMIN),
        limits=(
            "Opsgenie records that a role was updated, not in which direction: "
            "revoked roles are listed too.",
            "Cloudflare records new members with any role.",
            "Rights that come with membership of a group that already has them.",
        ),
    ),
    "mfa-removed": Ready(
        title="MFA removed or reset",
        about="Second factors deleted, reset or switched off, by the user or by an administrator.",
        text=_of(_MFA),
        kinds=frozenset(_MFA),
        limits=(
            "A user's `Update user` in Entra ID and Office 365 can change the methods "
            "without naming them.",
            "Factors that were weakened but not removed, such as a new phone number.",
        ),
    ),
    "new-countries": Ready(
        title="New countries",
        about="Accounts active from a country in which they were not seen in the 90 days before.",
        text=f"{_SIGN_INS} country:*",
        kinds=_LOCATED,
        limits=(
            "Accounts without located sign-ins in the 90 days before: all is new to them.",
            "VPNs and proxies, which move the address to another country.",
        ),
        find=detections.new_countries,
    ),
    "oauth-grants": Ready(
        title="OAuth grants",
        about="Applications that were given access to data, by a user or for the organisation.",
        text=_of(_OAUTH),
        kinds=frozenset(_OAUTH),
        limits=("Grants from before the lake begins, which stay valid until they are revoked.",),
    ),
    "keys-created": Ready(
        title="API keys and tokens created",
        about="New or renewed secrets of applications, integrations and scripts.",
        text=_of(_KEYS),
        kinds=frozenset(_KEYS),
        limits=(
            "Google Workspace records domain-wide delegation only: keys of service accounts are "
            "in Google Cloud's log.",
            "Session and refresh tokens, which are issued at each sign-in.",
        ),
    ),
    "mail-forwarding": Ready(
        title="Mail forwarding and delegates",
        about="Forwarding addresses, inbox and transport rules, and access to another's mailbox.",
        text=_of(_MAIL),
        kinds=frozenset(_MAIL),
        limits=(
            "Google Workspace records forwarding that users set only if it leaves the domain.",
            "`Set-Mailbox` is listed for any setting of a mailbox, forwarding among them.",
        ),
    ),
    "audit-settings": Ready(
        title="Audit and security settings changed",
        about="Logging, sign-in, data loss and firewall policies changed, disabled or deleted.",
        text=_of(_AUDIT),
        kinds=frozenset(_AUDIT),
        limits=("Whether a change weakened a policy: open the event to see its values.",),
    ),
    "mass-download": Ready(
        title="Mass download",
        about="Accounts that downloaded or exported more in an hour than in any of the 30 days "
        "before.",
        text="action_type:(Download, Export, Sync) OR (kind:entra_id action:*Download*)",
        kinds=frozenset(
            {"atlassian", "entra_id", "google_workspace", "jumpcloud", "office_365", "okta"}
        ),
        limits=(
            "Files read in the browser or copied through an API without a download event.",
            "Slow copies: fewer than 20 downloads an hour are never listed.",
        ),
        find=detections.mass_downloads,
    ),
    "dormant-active": Ready(
        title="Dormant account active",
        about="Accounts active again after 30 days or more without any event.",
        text="actor:*",
        kinds=_ALL,
        limits=(
            "Accounts that were silent since before the lake begins: nothing tells them from new "
            "ones.",
            "Accounts whose records name them differently from before.",
        ),
        find=detections.dormant,
    ),
    "failed-then-successful": Ready(
        title="Failed, then successful sign-in",
        about="Accounts that signed in within an hour after three failures, or after ten of the "
        "same address on several accounts.",
        text=_SIGN_INS,
        kinds=_ALL - {"opsgenie"},
        limits=(
            "Attacks that change the address for each account, one failure each.",
            "Failures for a name that is no account, which some vendors do not record.",
        ),
        find=detections.failed_then_successful,
    ),
}
