"""The events of the incidents that single services record, and in their benign twins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sandbox import cast
from sandbox.cast import Account
from sandbox.company import Company
from sandbox.telling import Scene, Story, at_work, attacker, thing

_OUTSIDE = "collector@fabrikam.example"
_VICTIMS = ("Legal", "People")
"""The last person of each is a victim, so none of them travels."""


def _okta(event_type: str, message: str, **debug: str) -> dict[str, Any]:
    return {
        "eventType": event_type,
        "displayMessage": message,
        **({"debugContext": {"debugData": debug}} if debug else {}),
    }


_LOG = "okta/system_log"
_CONSOLE = thing("app", "Okta Admin Console")


def _support_upload(company: Company, anchor: datetime) -> Iterator[Scene]:
    admin = company.one("Security")
    start = anchor - timedelta(hours=20)
    own = at_work(company, start, admin)
    # The cookie in the uploaded file is that of the administrator's own session.
    thief = replace(attacker(company, start, admin, 0), session=own.session)
    backdoor = Account(
        kind="service",
        name="svc network backup",
        email=f"svc-network-backup@{cast.DOMAIN}",
        places=(thief.place,),
        devices=(thief.device,),
    )
    yield own.scene(0, _LOG, "user.session.start")
    yield own.scene(2, _LOG, "user.session.access_admin_app", thing=_CONSOLE)
    yield thief.scene(38, _LOG, "user.session.access_admin_app", thing=_CONSOLE)
    yield thief.scene(
        38.5,
        _LOG,
        "user.session.access_admin_app",
        changes=_okta("user.session.context.change", "User session context changed"),
    )
    yield thief.scene(
        41, _LOG, "analytics.reports.export.download", thing=thing("report", "Administrators")
    )
    yield thief.scene(
        46,
        _LOG,
        "application.lifecycle.create",
        thing=thing("app", "Corporate sign-in"),
        changes=_okta("system.idp.lifecycle.create", "Create Identity Provider"),
    )
    yield thief.scene(52, _LOG, "user.lifecycle.create", whom=backdoor)
    yield thief.scene(
        54,
        _LOG,
        "user.account.privilege.grant",
        thing=thing("role", "Super Administrator"),
        whom=backdoor,
        changes={"debugContext": {"debugData": {"privilegeGranted": "Super administrator"}}},
    )
    yield thief.scene(60, _LOG, "user.authentication.sso", thing=thing("app", "Google Workspace"))
    yield thief.scene(
        60.2, "google_workspace/saml", "login_success", thing=thing("app", "Google Workspace")
    )
    for nth, document in enumerate(company.things["document"][:15]):
        yield thief.scene(63 + nth, "google_workspace/drive", "download", thing=document)


def _ordinary_grant(company: Company, anchor: datetime) -> Iterator[Scene]:
    admins = [person for person in company.people if person.admin]
    it = at_work(company, anchor - timedelta(hours=26), admins[0])
    role = thing("role", "Read Only Administrator")
    yield it.scene(0, _LOG, "user.session.start")
    yield it.scene(1, _LOG, "user.session.access_admin_app", thing=_CONSOLE)
    yield it.scene(
        4,
        _LOG,
        "user.account.privilege.grant",
        thing=role,
        whom=company.one("Support"),
        changes={"debugContext": {"debugData": {"privilegeGranted": "Read-only administrator"}}},
    )
    yield it.scene(
        9, _LOG, "analytics.reports.export.download", thing=thing("report", "Access Review")
    )


_V1, _V2 = "cloudflare/audit_logs", "cloudflare/audit_logs_v2"
_EVENTS = "atlassian/events"


def _unrotated_tokens(company: Company, anchor: datetime) -> Iterator[Scene]:
    service = company.services[3]
    it = replace(attacker(company, anchor - timedelta(hours=14), service, 1), device=cast.SCRIPT)
    helper = Account(kind="person", name="Conf Helper", email=f"conf.helper@{cast.DOMAIN}")
    yield it.scene(0, "entra_id/service_principal_sign_ins", "secret")
    for nth, page in enumerate(company.things["document"][20:45]):
        yield it.scene(3 + nth, _EVENTS, "confluence_page_viewed", thing=page)
    for nth, page in enumerate(company.things["document"][20:32]):
        yield it.scene(30 + nth, _EVENTS, "confluence_page_exported", thing=page)
    yield it.scene(44, _EVENTS, "user_created", whom=helper)
    yield it.scene(46, _EVENTS, "added_org_admin", whom=helper)
    yield it.scene(52, _EVENTS, "api_token_created", thing=thing("token", "backup"))
    yield it.scene(58, _EVENTS, "app_installed", thing=thing("app", "Script Console"))
    role = "Super Administrator - All Privileges"
    yield it.scene(75, _V1, "member_add", whom=helper, changes={"newValueJson": {"roles": [role]}})
    yield it.scene(
        75, _V2, "member_add", whom=helper, changes={"resource": {"request": {"roles": [role]}}}
    )
    yield it.scene(78, _V1, "token_create", thing=thing("token", "edge-read"))
    yield it.scene(78, _V2, "token_create", thing=thing("token", "edge-read"))
    yield it.scene(
        83,
        _V1,
        "firewall_rule_disable",
        changes={"action": {"type": "logpush_job_delete"}, "resource": {"type": "logpush.job"}},
    )
    yield it.scene(
        83,
        _V2,
        "firewall_rule_disable",
        changes={
            "action": {"type": "delete", "description": "Delete Logpush Job"},
            "resource": {"product": "logpush", "type": "logpush.job"},
        },
    )


def _rotation(company: Company, anchor: datetime) -> Iterator[Scene]:
    admins = [person for person in company.people if person.admin]
    it = at_work(company, anchor - timedelta(hours=31), admins[1])
    for nth, token in enumerate(company.things["token"][:4]):
        yield it.scene(4 * nth, _V1, "token_roll", thing=token)
        yield it.scene(4 * nth, _V2, "token_roll", thing=token)
    yield it.scene(20, _EVENTS, "api_token_created", thing=thing("token", "reports 2"))
    yield it.scene(24, _EVENTS, "api_token_revoked", thing=thing("token", "reports 1"))


_AUDITS, _EXCHANGE = "entra_id/directory_audits", "office_365/exchange"
_DIRECTORY = "office_365/azure_active_directory"
_RISKS = "entra_id/risk_detections"
_HIDING_RULE = [
    {"Name": "Name", "Value": "."},
    {"Name": "SubjectOrBodyContainsWords", "Value": "invoice;payment;bank"},
    {"Name": "MoveToFolder", "Value": "RSS Subscriptions"},
    {"Name": "MarkAsRead", "Value": "True"},
]


def _consent(app: str, scopes: str, *, admin: bool) -> dict[str, Any]:
    """Return the directory audit's record of a consent."""
    permissions = f"[] => [[ConsentType: Principal, Scope: {scopes}]]"
    values = {"ConsentContext.IsAdminConsent": str(admin), "ConsentAction.Permissions": permissions}
    changes = [
        {"displayName": name, "oldValue": None, "newValue": f'"{value}"'}
        for name, value in values.items()
    ]
    resource = {"displayName": app, "type": "ServicePrincipal", "modifiedProperties": changes}
    return {"targetResources": [resource]}


def _consented(app: str, *, admin: bool) -> dict[str, Any]:
    """Return the unified audit log's record of a consent."""
    changes = {"ConsentContext.IsAdminConsent": str(admin), "TargetId.ServicePrincipalNames": app}
    return {
        "ModifiedProperties": [
            {"Name": name, "NewValue": value, "OldValue": ""} for name, value in changes.items()
        ]
    }


def _consent_phishing(company: Company, anchor: datetime) -> Iterator[Scene]:
    victim, start = company.one("Legal"), anchor - timedelta(hours=8)
    own, thief = at_work(company, start, victim), attacker(company, start, victim, 2)
    app = thing("app", "Document Viewer Plus")
    scopes = "Mail.ReadWrite Mail.Send MailboxSettings.ReadWrite offline_access"
    yield own.scene(
        0, _AUDITS, "Consent to application", thing=app,
        changes=_consent(app.name, scopes, admin=False),
    )  # fmt: skip
    yield own.scene(
        0.1, _DIRECTORY, "Consent to application.", thing=app,
        changes=_consented(app.name, admin=False),
    )  # fmt: skip
    client = {"ClientInfoString": "Client=REST;;", "AppId": "6b0f3a52-1d77-4c0e-9a51-7be1f0c2d901"}
    for nth in range(20):
        yield thief.scene(25 + nth, _EXCHANGE, "MailItemsAccessed", changes=client)
    yield thief.scene(51, _EXCHANGE, "New-InboxRule", changes={"Parameters": _HIDING_RULE})
    yield thief.scene(53, _RISKS, "mcasSuspiciousInboxManipulationRules")
    for nth in range(6):
        yield thief.scene(60 + 2 * nth, _EXCHANGE, "Send", changes=client)


def _ordinary_consent(company: Company, anchor: datetime) -> Iterator[Scene]:
    start = anchor - timedelta(hours=33)
    it = at_work(company, start, company.one("Marketing"))
    app = thing("app", "Miro")
    yield it.scene(
        0, _AUDITS, "Consent to application", thing=app,
        changes=_consent(app.name, "openid profile User.Read", admin=False),
    )  # fmt: skip
    yield it.scene(
        0.1, _DIRECTORY, "Consent to application.", thing=app,
        changes=_consented(app.name, admin=False),
    )  # fmt: skip
    other = at_work(company, start, company.one("Support"))
    rule = [
        {"Name": "Name", "Value": "Newsletters"},
        {"Name": "FromAddressContainsWords", "Value": "news"},
        {"Name": "MoveToFolder", "Value": "Newsletters"},
    ]
    yield other.scene(30, _EXCHANGE, "New-InboxRule", changes={"Parameters": rule})


_SIGN_INS = "entra_id/sign_ins"
_STOLEN = {
    "riskLevelDuringSignIn": "high",
    "riskLevelAggregated": "high",
    "riskEventTypes": ["anomalousToken"],
    "riskEventTypes_v2": ["anomalousToken"],
}


def _adversary_in_the_middle(company: Company, anchor: datetime) -> Iterator[Scene]:
    victim, start = company.one("People"), anchor - timedelta(hours=4)
    it = attacker(company, start, victim, 0)
    office = thing("app", "Office 365")
    forward = [
        {"Name": "Identity", "Value": victim.email},
        {"Name": "ForwardingSmtpAddress", "Value": f"smtp:{_OUTSIDE}"},
        {"Name": "DeliverToMailboxAndForward", "Value": "True"},
    ]
    yield it.scene(0, _SIGN_INS, "MFA completed", thing=office, changes=_STOLEN)
    yield it.scene(0.2, _DIRECTORY, "UserLoggedIn", thing=office)
    yield it.scene(2, _RISKS, "attackerinTheMiddle")
    for nth in range(4):
        yield it.scene(3 + nth, "entra_id/non_interactive_sign_ins", "refresh", thing=office)
    yield it.scene(9, _AUDITS, "User registered security info")
    yield it.scene(15, _EXCHANGE, "Set-Mailbox", whom=victim, changes={"Parameters": forward})
    yield it.scene(17, _EXCHANGE, "New-InboxRule")
    yield it.scene(
        21, "google_workspace/saml", "login_success", thing=thing("app", "Google Workspace")
    )
    yield it.scene(24, "google_workspace/user_accounts", "email_forwarding_out_of_domain")
    for nth, document in enumerate(company.things["document"][30:50]):
        yield it.scene(28 + nth, "office_365/sharepoint", "FileDownloaded", thing=document)


def _journey(company: Company, anchor: datetime) -> Iterator[Scene]:
    """A person signs in at an office abroad, at an hour at which nobody at home works."""
    start = anchor - timedelta(hours=23)
    victims = {company.one(department) for department in _VICTIMS}
    others = [each for each in company.people if not each.admin and each not in victims]
    traveller = next((each for each in others if _asleep(each, start)), others[0])
    own = at_work(company, start, traveller)
    elsewhere = (
        person.places[1] for person in company.people if person.places[1].code != own.place.code
    )
    it = replace(own, place=next(elsewhere, own.place))
    yield it.scene(0, _LOG, "user.session.start")
    yield it.scene(0.5, _LOG, "user.authentication.auth_via_mfa")
    yield it.scene(1, _SIGN_INS, "MFA completed", thing=thing("app", "Office 365"))
    yield it.scene(2, _RISKS, "newCountry")
    yield it.scene(3, "google_workspace/login", "login_success")
    for nth, document in enumerate(company.things["document"][:5]):
        yield it.scene(6 + nth, "google_workspace/drive", "view", thing=document)


def _asleep(person: Account, when: datetime) -> bool:
    return (when + timedelta(hours=person.utc_offset)).hour in (22, 23, 0, 1, 2, 3, 4)


def bulk_export(company: Company, anchor: datetime) -> Iterator[Scene]:
    """Yield the work of an accountant who collects files for an audit."""
    it = at_work(company, anchor - timedelta(days=9, hours=3), company.people[35])
    for nth, document in enumerate(company.things["document"][:60]):
        stream, what = (
            ("google_workspace/drive", "download")
            if nth % 2
            else ("office_365/sharepoint", "FileDownloaded")
        )
        yield it.scene(nth, stream, what, thing=document)
    yield it.scene(70, "office_365/general", "ExportReport", thing=company.things["report"][2])


STORIES = (
    Story(
        name="support_upload",
        title="A session stolen from a file uploaded to support",
        about="A recording of the browser, uploaded to a vendor's support, contains the cookie of "
        "an administrator's session. Somebody else uses it in Okta: adds an identity provider and "
        "a service account with the highest role, and downloads files.",
        scenes=_support_upload,
        twin_title="An administrator lets a colleague read the settings",
        twin=_ordinary_grant,
    ),
    Story(
        name="unrotated_tokens",
        title="Tokens and service accounts that nobody rotated",
        about="The token of a service account, stolen long ago, still works: it reads Confluence, "
        "makes a new person administrator in Atlassian and Cloudflare, and stops the log delivery.",
        scenes=_unrotated_tokens,
        twin_title="An administrator rotates the tokens",
        twin=_rotation,
    ),
    Story(
        name="consent_phishing",
        title="Consent phishing with mail rules",
        about="A lawyer consents to an application that asks for the mailbox. It reads mail, hides "
        "answers about payments by a rule and sends invoices.",
        scenes=_consent_phishing,
        twin_title="Consent to a harmless application, and a rule for newsletters",
        twin=_ordinary_consent,
    ),
    Story(
        name="adversary_in_the_middle",
        title="A sign-in through a phishing proxy, with forwarding",
        about="A proxy relays the sign-in with its second factor and keeps the session. The "
        "attacker registers a factor of their own, forwards mail outside and downloads files.",
        scenes=_adversary_in_the_middle,
        twin_title="A journey to an office abroad",
        twin=_journey,
    ),
)
"""Oldest first."""
