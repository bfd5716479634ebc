"""Events of Microsoft 365: their frequencies, and their records in the unified audit log.

https://learn.microsoft.com/office/office-365-management-api/office-365-management-activity-api-schema
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from sandbox.cast import DOMAIN, Account, Sort
from sandbox.company import Act, Habit, Happening, Role
from sandbox.microsoft import TENANT_ID, guid
from sandbox.service import secret

_SITES = f"https://{DOMAIN.partition('.')[0]}.sharepoint.com"
_SERVER = "AM9PR04MB8211 (15.20.9275.013)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doing:
    """The properties that the operations of a group share: record type, actor and object."""

    type: int
    workload: str
    by: Role = "person"
    on: Sort | None = None
    whom: bool = False
    kind: str = ""


Row = tuple[_Doing, str, float]

_LOGON = _Doing(type=15, workload="AzureActiveDirectory", on="app")
_ON_USER = _Doing(type=8, workload="AzureActiveDirectory", by="admin", whom=True, kind="User")
_IN_ROLE = _Doing(
    type=8, workload="AzureActiveDirectory", by="admin", on="role", whom=True, kind="Role"
)
_IN_GROUP = _Doing(
    type=8, workload="AzureActiveDirectory", by="admin", on="group", whom=True, kind="Group"
)
_ON_APP = _Doing(
    type=8, workload="AzureActiveDirectory", by="admin", on="app", kind="ServicePrincipal"
)
_SYNCED = _Doing(type=8, workload="AzureActiveDirectory", by="service", whom=True, kind="User")
_DIRECTORY: tuple[Row, ...] = (
    (_LOGON, "UserLoggedIn", 30),
    (_LOGON, "UserLoginFailed", 3),
    (_ON_USER, "Add user.", 0.4),
    (_ON_USER, "Update user.", 4),
    (_ON_USER, "Reset user password.", 0.6),
    (_ON_USER, "Disable account.", 0.2),
    (_ON_USER, "Delete user.", 0.2),
    (_IN_ROLE, "Add member to role.", 0.15),
    (_IN_ROLE, "Remove member from role.", 0.1),
    (_IN_GROUP, "Add member to group.", 2),
    (_IN_GROUP, "Remove member from group.", 1),
    (_ON_APP, "Consent to application.", 0.2),
    (_ON_APP, "Update application \u2013 Certificates and secrets management ", 0.1),
    (_SYNCED, "Update user.", 1),
)

_MAIL = _Doing(type=2, workload="Exchange")
_GROUPED_MAIL = _Doing(type=3, workload="Exchange")
_READ = _Doing(type=50, workload="Exchange")
_CMDLET = _Doing(type=1, workload="Exchange")
_ADMIN_CMDLET = _Doing(type=1, workload="Exchange", by="admin", whom=True)
_OWN_CMDLET = _Doing(type=1, workload="Exchange", by="system")
_EXCHANGE: tuple[Row, ...] = (
    (_READ, "MailItemsAccessed", 20),
    (_MAIL, "Send", 8),
    (_MAIL, "Create", 5),
    (_MAIL, "Update", 3),
    (_GROUPED_MAIL, "MoveToDeletedItems", 3),
    (_GROUPED_MAIL, "SoftDelete", 1.5),
    (_GROUPED_MAIL, "HardDelete", 0.5),
    (_CMDLET, "New-InboxRule", 0.2),
    (_CMDLET, "Set-InboxRule", 0.1),
    (_ADMIN_CMDLET, "Add-MailboxPermission", 0.15),
    (_ADMIN_CMDLET, "Set-Mailbox", 0.3),
    (_OWN_CMDLET, "Set-Mailbox", 2),
    (_OWN_CMDLET, "Install-ResourceConfig", 0.3),
)

_FILE = _Doing(type=6, workload="SharePoint", on="document", kind="File")
_SHARING = _Doing(type=14, workload="OneDrive", on="document", kind="File")
_PAGE = _Doing(type=4, workload="SharePoint", on="group", kind="Page")
_LIST = _Doing(type=36, workload="SharePoint", on="group", kind="List")
_SHAREPOINT: tuple[Row, ...] = (
    (_FILE, "FileAccessed", 25),
    (_FILE, "FileDownloaded", 5),
    (_FILE, "FileModified", 10),
    (_FILE, "FileUploaded", 4),
    (_FILE, "FilePreviewed", 6),
    (_FILE, "FileDeleted", 1),
    (_FILE, "FileSyncDownloadedFull", 3),
    (_SHARING, "SharingSet", 1),
    (_SHARING, "AnonymousLinkCreated", 0.2),
    (_SHARING, "SecureLinkUsed", 0.6),
    (_PAGE, "PageViewed", 8),
    (_LIST, "ListViewed", 2),
)

_TEAM = _Doing(type=25, workload="MicrosoftTeams", on="group", whom=True)
_ALERT = _Doing(type=40, workload="SecurityComplianceCenter", by="system", whom=True)
_CENTER = _Doing(type=18, workload="SecurityComplianceCenter", by="admin", on="policy")
_SEARCH = _Doing(type=52, workload="SecurityComplianceCenter", by="admin")
_THREAT = _Doing(type=28, workload="ThreatIntelligence", by="system", whom=True)
_YAMMER = _Doing(type=22, workload="Yammer", on="group")
_EXPORT = _Doing(type=20, workload="PowerBI", on="report")
_GENERAL: tuple[Row, ...] = (
    (_TEAM, "MemberAdded", 2),
    (_TEAM, "MemberRemoved", 1),
    (_TEAM, "TeamCreated", 0.2),
    (_TEAM, "MemberRoleChanged", 0.4),
    (_TEAM, "MessageCreatedHasLink", 4),
    (_ALERT, "AlertTriggered", 0.4),
    (_ALERT, "AlertEntityGenerated", 0.4),
    (_CENTER, "Set-DlpCompliancePolicy", 0.2),
    (_CENTER, "Get-DlpCompliancePolicy", 1),
    (_SEARCH, "SearchAlert", 1),
    (_THREAT, "TIMailData", 1),
    (_YAMMER, "GroupCreation", 0.1),
    (_EXPORT, "ExportReport", 0.3),
)

_DLP_FILE = _Doing(type=11, workload="OneDrive", on="document")
_DLP_MAIL = _Doing(type=13, workload="Exchange", on="document")
_DLP: tuple[Row, ...] = (
    (_DLP_FILE, "DLPRuleMatch", 4),
    (_DLP_MAIL, "DlpRuleMatch", 4),
    (_DLP_MAIL, "DlpRuleUndo", 0.5),
)

_ACTS: dict[str, tuple[Act, ...]] = {
    "UserLoggedIn": ("sign_in", "open_app"),
    "Add member to role.": ("grant_admin",),
    "Remove member from role.": ("revoke_admin",),
    "Update application \u2013 Certificates and secrets management ": ("create_token",),
    "New-InboxRule": ("forward_mail",),
    "FileDownloaded": ("download",),
    "AnonymousLinkCreated": ("share_outside",),
    "AlertTriggered": ("detect_threat",),
    "Set-DlpCompliancePolicy": ("weaken_policy",),
    "ExportReport": ("export",),
}


def _rows(rows: Sequence[Row]) -> dict[str, tuple[_Doing, str]]:
    """Return rows by habit name, which includes the role: several roles share some operations."""
    return {_what(doing, operation): (doing, operation) for doing, operation, _ in rows}


def _what(doing: _Doing, operation: str) -> str:
    return operation if doing.by in ("person", "admin") else f"{operation} by {doing.by}"


_IN_DIRECTORY, _IN_EXCHANGE = _rows(_DIRECTORY), _rows(_EXCHANGE)
_IN_SHAREPOINT, _IN_GENERAL, _IN_DLP = _rows(_SHAREPOINT), _rows(_GENERAL), _rows(_DLP)


def _common(happening: Happening, doing: _Doing, operation: str, rng: Random) -> dict[str, Any]:
    actor = happening.actor
    return {
        "CreationTime": f"{happening.time:%Y-%m-%dT%H:%M:%S}",
        "Id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
        "Operation": operation,
        "OrganizationId": TENANT_ID,
        "RecordType": doing.type,
        "UserKey": _puid(actor),
        "UserType": 2 if doing.type in (1, 18) and actor.admin else 0,
        "Version": 1,
        "Workload": doing.workload,
        "UserId": actor.email,
    }


def _puid(account: Account) -> str:
    return f"10032{secret(account.email)[:11].upper()}"


def _address(happening: Happening, rng: Random) -> str:
    """Return the IP address in one of its formats: bare, with a port, IPv4-mapped."""
    ip = happening.place.ip if happening.place else "198.51.100.250"
    port = rng.randrange(1024, 65536)
    return rng.choice((ip, ip, f"{ip}:{port}", f"[{ip}]:{port}", f"[::ffff:{ip}]:{port}"))


def _ip(happening: Happening) -> str:
    return happening.place.ip if happening.place else ""


def _agent(happening: Happening) -> str:
    return happening.device.user_agent if happening.device else ""


def _directory(happening: Happening, rng: Random) -> dict[str, Any]:
    doing, operation = _IN_DIRECTORY[happening.what]
    if doing is _LOGON:
        return _logon(happening, rng)
    record = _common(happening, doing, operation, rng)
    service = happening.actor.kind == "service"
    principal = guid(f"principal {happening.actor.name}")
    if service:
        record |= {
            "UserId": f"ServicePrincipal_{principal}",
            "UserKey": "Not Available",
            "UserType": 4,
        }
    return record | {
        "ResultStatus": "Success" if happening.ok else "Failure",
        "ObjectId": happening.whom.email if happening.whom else guid(_thing(happening)),
        "AzureActiveDirectoryEventType": 1,
        "ExtendedProperties": [
            {
                "Name": "additionalDetails",
                "Value": json.dumps({"User-Agent": _agent(happening)} if not service else {}),
            },
            {"Name": "extendedAuditEventCategory", "Value": doing.kind},
        ],
        "ModifiedProperties": _modified(happening, doing),
        "Actor": _service_parts(happening.actor) if service else _parts(happening.actor),
        "ActorContextId": TENANT_ID,
        "ActorIpAddress": _ip(happening),
        "InterSystemsId": guid(record["Id"]),
        "Target": _parts(happening.whom) if happening.whom else _app_parts(_thing(happening)),
        "TargetContextId": TENANT_ID,
    }


def _thing(happening: Happening) -> str:
    return happening.thing.name if happening.thing else ""


def _parts(account: Account) -> list[dict[str, Any]]:
    """Return the list of ids and types that describes one account."""
    id_ = guid(account.email)
    return [
        {"ID": account.email, "Type": 5},
        {"ID": _puid(account), "Type": 3},
        {"ID": f"User_{id_}", "Type": 2},
        {"ID": id_, "Type": 2},
        {"ID": "User", "Type": 2},
    ]


def _service_parts(account: Account) -> list[dict[str, Any]]:
    id_ = guid(f"principal {account.name}")
    return [
        {"ID": account.name, "Type": 1},
        {"ID": f"ServicePrincipal_{id_}", "Type": 2},
        {"ID": id_, "Type": 2},
        {"ID": "ServicePrincipal", "Type": 2},
    ]


def _app_parts(name: str) -> list[dict[str, Any]]:
    id_ = guid(f"app {name}")
    return [
        {"ID": f"ServicePrincipal_{id_}", "Type": 2},
        {"ID": id_, "Type": 2},
        {"ID": "ServicePrincipal", "Type": 2},
        {"ID": name, "Type": 1},
    ]


def _modified(happening: Happening, doing: _Doing) -> list[dict[str, Any]]:
    if doing.kind in ("Role", "Group"):
        name = _thing(happening)
        return [
            {"Name": f"{doing.kind}.ObjectID", "NewValue": guid(name), "OldValue": ""},
            {"Name": f"{doing.kind}.DisplayName", "NewValue": name, "OldValue": ""},
        ]
    return [{"Name": "DisplayName", "NewValue": '[\r\n  "changed"\r\n]', "OldValue": "[]"}]


def _logon(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a sign-in; two thirds of the failures have the ResultStatus Success."""
    ok = happening.ok and happening.what == "UserLoggedIn"
    operation = "UserLoggedIn" if ok else "UserLoginFailed"
    record = _common(happening, _LOGON, operation, rng)
    app = guid(f"app {_thing(happening) or 'Office 365'}")
    request = "Login:login" if happening.device and happening.device.mobile else "OAuth2:Authorize"
    record |= {
        "ResultStatus": "Success" if ok or rng.random() < 0.67 else "Failed",
        "UserKey": guid(happening.actor.email),
        "ClientIP": _ip(happening),
        "ObjectId": app,
        "AzureActiveDirectoryEventType": 1,
        "ExtendedProperties": [
            {"Name": "ResultStatusDetail", "Value": "Redirect" if ok else "UserError"},
            {"Name": "UserAgent", "Value": _agent(happening)},
            {"Name": "RequestType", "Value": request},
        ],
        "ModifiedProperties": [],
        "Actor": [
            {"ID": guid(happening.actor.email), "Type": 0},
            {"ID": happening.actor.email, "Type": 5},
        ],
        "ActorContextId": TENANT_ID,
        "ActorIpAddress": _ip(happening),
        "InterSystemsId": guid(happening.session),
        "IntraSystemId": record["Id"],
        "Target": [{"ID": app, "Type": 0}],
        "TargetContextId": TENANT_ID,
        "ApplicationId": app,
        "DeviceProperties": [{"Name": "SessionId", "Value": guid(f"session {happening.session}")}],
        "ErrorNumber": "0" if ok else "50126",
    }
    return record if ok else record | {"LogonError": "InvalidUserNameOrPassword"}


def _exchange(happening: Happening, rng: Random) -> dict[str, Any]:
    doing, operation = _IN_EXCHANGE[happening.what]
    record = _common(happening, doing, operation, rng)
    if doing.type == 1:
        return record | _cmdlet(happening, operation, rng)
    ip = _ip(happening)
    record |= {
        "ResultStatus": "Succeeded",
        "ClientIPAddress": ip,
        "ClientInfoString": f"Client=OWA;{_agent(happening)};",
        "ExternalAccess": False,
        "LogonType": 0,
        "MailboxGuid": guid(f"mailbox {happening.actor.email}"),
        "MailboxOwnerUPN": happening.actor.email,
        "OrganizationName": DOMAIN,
        "OriginatingServer": f"{_SERVER}\r\n",
        "SessionId": guid(f"session {happening.session}"),
    }
    message = {
        "Id": secret(record["Id"]),
        "InternetMessageId": f"<{secret(record['Id'])[:20]}@{DOMAIN}>",
        "ParentFolder": {"Path": "\\Inbox"},
        "Subject": f"Re: {rng.choice(('Forecast', 'Roadmap', 'Lunch', 'Offer'))}",
    }
    if doing is _MAIL:
        return record | {"ClientIP": ip, "Item": message}
    if doing is _GROUPED_MAIL:
        return record | {"ClientIP": ip, "AffectedItems": [message], "CrossMailboxOperation": False}
    folder = {"FolderItems": [{"InternetMessageId": message["InternetMessageId"]}]}
    return record | {"Folders": [folder | {"Path": "\\Inbox"}], "OperationCount": 1}


def _cmdlet(happening: Happening, operation: str, rng: Random) -> dict[str, Any]:
    """Return a cmdlet; Microsoft's own actions have a name instead of the user's address."""
    root = f"EURPR04A009.PROD.OUTLOOK.COM/Microsoft Exchange Hosted Organizations/{DOMAIN}"
    who = happening.whom or happening.actor
    record = {
        "ResultStatus": "True" if happening.ok else "False",
        "ObjectId": f"{root}/{who.email.partition('@')[0] or 'DiscoverySearchMailbox'}",
        "ExternalAccess": False,
        "OrganizationName": DOMAIN,
        "OriginatingServer": _SERVER,
        "Parameters": _parameters(operation, who),
        "SessionId": "" if happening.actor.kind == "system" else guid(happening.session),
    }
    if happening.actor.kind != "system":
        return record | {"ClientIP": _address(happening, rng)}
    name = "NT AUTHORITY\\SYSTEM (Microsoft.Exchange.ServiceHost)"
    return record | {"UserId": name, "UserKey": name, "UserType": 3, "ExternalAccess": True}


def _parameters(operation: str, who: Account) -> list[dict[str, str]]:
    if operation == "New-InboxRule":
        return [
            {"Name": "Name", "Value": "."},
            {"Name": "ForwardTo", "Value": "collector@fabrikam.example"},
            {"Name": "DeleteMessage", "Value": "True"},
        ]
    return [{"Name": "Identity", "Value": who.email}]


def _sharepoint(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a file or page operation; these have no result status."""
    doing, operation = _IN_SHAREPOINT[happening.what]
    site, name = f"{_SITES}/sites/Shared", _thing(happening)
    record = _common(happening, doing, operation, rng) | {
        "UserKey": f"i:0h.f|membership|{_puid(happening.actor).lower()}@live.com",
        "ClientIP": _ip(happening),
        "CorrelationId": guid(f"{happening.session} {happening.time:%H}"),
        "EventSource": "SharePoint",
        "ItemType": doing.kind,
        "UserAgent": _agent(happening),
        "SiteUrl": f"{site}/",
    }
    if doing.kind != "File":
        return record | {"ObjectId": f"{site}/SitePages/{name}.aspx", "ListId": guid(name)}
    record |= {
        "ObjectId": f"{site}/Documents/{name}.docx",
        "SourceFileExtension": "docx",
        "SourceFileName": f"{name}.docx",
        "SourceRelativeUrl": "Documents",
    }
    if doing is not _SHARING:
        return record
    outside = happening.suspicious or operation == "SharingSet"
    shared_with = "partner@fabrikam.example" if outside else "Everyone except external users"
    kind = "Guest" if outside else "SecurityGroup"
    return record | {"TargetUserOrGroupName": shared_with, "TargetUserOrGroupType": kind}


def _general(happening: Happening, rng: Random) -> dict[str, Any]:
    doing, operation = _IN_GENERAL[happening.what]
    record = _common(happening, doing, operation, rng)
    whom, name = happening.whom, _thing(happening)
    more: dict[str, Any]
    match doing.type:
        case 25 if whom:
            role = 2 if operation == "MemberRoleChanged" else 1
            member = {"DisplayName": whom.name, "Role": role, "UPN": whom.email}
            team = {"TeamGuid": f"19:{secret(name)[:32]}@thread.tacv2", "TeamName": name}
            more = {"UserKey": guid(happening.actor.email), "Members": [member], **team}
        case 40:
            # An attack step's actor is its victim: the alert names that account.
            victim = happening.actor if happening.actor.email else whom
            more = _alert(operation, victim, suspicious=happening.suspicious)
        case 18:
            more = {
                "ResultStatus": "Success",
                "ObjectId": guid(f"policy {name}"),
                "ClientApplication": "PowerShell",
                "Parameters": f'-Identity "{name}"',
            }
        case 52:
            id_ = guid(happening.actor.email)
            more = {"UserId": id_, "UserKey": id_, "DataType": "Alert"}
        case 28 if whom:
            more = _phish(whom, rng)
        case 22:
            address = {"ClientIP": _address(happening, rng)}
            more = {"GroupName": name, "ObjectId": name, "ResultStatus": "TRUE", **address}
        case _:
            more = _report(happening)
    return record | more


def _report(happening: Happening) -> dict[str, Any]:
    name = _thing(happening)
    return {
        "ClientIP": _ip(happening),
        "UserAgent": _agent(happening),
        "ReportName": name,
        "ObjectId": name,
        "IsSuccess": happening.ok,
    }


def _alert(operation: str, about: Account | None, *, suspicious: bool) -> dict[str, Any]:
    name = "Activity from infrequent country" if suspicious else "Unusual volume of file deletion"
    id_ = guid(f"alert {name}")
    record = {
        "UserId": "SecurityComplianceAlerts",
        "UserKey": "SecurityComplianceAlerts",
        "UserType": 4,
        "ResultStatus": "Succeeded",
        "ObjectId": id_,
        "AlertId": id_,
        "AlertType": "System",
        "Category": "ThreatManagement",
        "Comments": "New alert",
        "Name": name,
        "PolicyId": guid(f"policy {name}"),
        "Severity": "High" if suspicious else "Informational",
        "Source": "Office 365 Security & Compliance",
        "Status": "Active",
    }
    email = about.email if about else ""
    if email:
        record["Data"] = json.dumps({"f3u": email, "an": name, "sev": record["Severity"]})
    if operation == "AlertEntityGenerated" or suspicious:
        record |= {"AlertEntityId": email, "EntityType": "User", "ObjectId": email}
    return record


def _phish(whom: Account, rng: Random) -> dict[str, Any]:
    return {
        "UserId": "ThreatIntel",
        "UserKey": "ThreatIntel",
        "UserType": 4,
        "ObjectId": f"{guid(whom.email)}{rng.randrange(10**19)}",
        "DetectionMethod": "Advanced filter",
        "P2Sender": "billing@fabrikam.example",
        "PolicyAction": "Quarantine",
        "Recipients": [whom.email],
        "SenderIp": "192.0.2.77",
        "Subject": "Your invoice",
        "Verdict": "Phish",
    }


def _dlp(happening: Happening, rng: Random) -> dict[str, Any]:
    doing, operation = _IN_DLP[happening.what]
    name, actor = _thing(happening), happening.actor
    agent = "DlpAgent" if doing is _DLP_MAIL else "DlpPolicyEventBasedAssistantOneDriveForBusiness"
    rule = {
        "RuleId": guid("rule financial"),
        "RuleName": "Low volume of financial data",
        "RuleMode": "Enable",
        "Severity": rng.choice(("Low", "Low", "Medium", "High")),
        "Actions": ["NotifyUser"],
    }
    policy = {"PolicyId": guid("policy financial"), "PolicyName": "Financial data"}
    record = _common(happening, doing, operation, rng) | {
        "UserId": agent,
        "UserKey": agent,
        "UserType": 4,
        "IncidentId": guid(f"incident {name}"),
        "PolicyDetails": [policy | {"Rules": [rule]}],
        "SensitiveInfoDetectionIsIncluded": False,
    }
    if doing is _DLP_MAIL:
        message = f"<{secret(record['Id'])[:20]}@{DOMAIN}>"
        meta = {"From": actor.email, "To": ["partner@fabrikam.example"], "Subject": name}
        return record | {"ObjectId": message, "ExchangeMetaData": meta | {"MessageID": message}}
    url = f"{_SITES}/personal/{secret(actor.email)[:8]}/Documents/{name}.docx"
    file = {"FileName": f"{name}.docx", "FileOwner": actor.name, "FilePathUrl": url}
    return record | {"ObjectId": guid(url), "SharePointMetaData": file | {"From": actor.email}}


def _habits(rows: Sequence[Row], fails: float = 0.0) -> list[Habit]:
    return [
        Habit(
            what=_what(doing, operation),
            weight=weight,
            by=doing.by,
            on=doing.on,
            whom=doing.whom,
            fails=fails,
            acts=_ACTS.get(operation, ()),
        )
        for doing, operation, weight in rows
    ]


HABITS: Mapping[str, Sequence[Habit]] = {
    "azure_active_directory": _habits(_DIRECTORY, 0.02),
    "exchange": _habits(_EXCHANGE, 0.01),
    "sharepoint": _habits(_SHAREPOINT),
    "general": _habits(_GENERAL),
    "dlp": _habits(_DLP),
}
RENDER: Mapping[str, Callable[[Happening, Random], dict[str, Any]]] = {
    "azure_active_directory": _directory,
    "exchange": _exchange,
    "sharepoint": _sharepoint,
    "general": _general,
    "dlp": _dlp,
}
