"""The ATT&CK techniques that rules cover, per vendor, and those that they do not cover.

A tag such as `attack.t1098.003` names the technique. Rules over `events` and correlations count
for every vendor, because each vendor's events are mapped to the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

VENDORS: Mapping[str, str] = {
    "okta": "Okta",
    "gcp": "Google Workspace",
    "azure": "Entra ID",
    "m365": "Office 365",
    "cloudflare": "Cloudflare",
    "atlassian": "Atlassian",
    "jumpcloud": "JumpCloud",
    "opsgenie": "Opsgenie",
}
"""Product of a rule's log source -> the vendor's name."""
ALL = "All"
"""The column of rules over `events` and of correlations."""

TECHNIQUES: Mapping[str, str] = {
    "T1020": "Automated Exfiltration",
    "T1021.007": "Remote Services: Cloud Services",
    "T1036": "Masquerading",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1059": "Command and Scripting Interpreter",
    "T1059.004": "Command and Scripting Interpreter: Unix Shell",
    "T1059.006": "Command and Scripting Interpreter: Python",
    "T1069": "Permission Groups Discovery",
    "T1069.003": "Permission Groups Discovery: Cloud Groups",
    "T1070": "Indicator Removal",
    "T1070.008": "Indicator Removal: Clear Mailbox Data",
    "T1072": "Software Deployment Tools",
    "T1078": "Valid Accounts",
    "T1078.001": "Valid Accounts: Default Accounts",
    "T1078.004": "Valid Accounts: Cloud Accounts",
    "T1080": "Taint Shared Content",
    "T1087": "Account Discovery",
    "T1087.004": "Account Discovery: Cloud Account",
    "T1090.003": "Proxy: Multi-hop Proxy",
    "T1098": "Account Manipulation",
    "T1098.001": "Account Manipulation: Additional Cloud Credentials",
    "T1098.002": "Account Manipulation: Additional Email Delegate Permissions",
    "T1098.003": "Account Manipulation: Additional Cloud Roles",
    "T1098.005": "Account Manipulation: Device Registration",
    "T1098.007": "Account Manipulation: Additional Local or Domain Groups",
    "T1110": "Brute Force",
    "T1110.001": "Brute Force: Password Guessing",
    "T1110.003": "Brute Force: Password Spraying",
    "T1110.004": "Brute Force: Credential Stuffing",
    "T1114": "Email Collection",
    "T1114.002": "Email Collection: Remote Email Collection",
    "T1114.003": "Email Collection: Email Forwarding Rule",
    "T1133": "External Remote Services",
    "T1134": "Access Token Manipulation",
    "T1136.003": "Create Account: Cloud Account",
    "T1137": "Office Application Startup",
    "T1137.005": "Office Application Startup: Outlook Rules",
    "T1176": "Software Extensions",
    "T1189": "Drive-by Compromise",
    "T1195.002": "Supply Chain Compromise: Compromise Software Supply Chain",
    "T1199": "Trusted Relationship",
    "T1204": "User Execution",
    "T1204.001": "User Execution: Malicious Link",
    "T1204.002": "User Execution: Malicious File",
    "T1213": "Data from Information Repositories",
    "T1213.001": "Data from Information Repositories: Confluence",
    "T1213.002": "Data from Information Repositories: SharePoint",
    "T1219": "Remote Access Tools",
    "T1484": "Domain or Tenant Policy Modification",
    "T1484.002": "Domain or Tenant Policy Modification: Trust Modification",
    "T1485": "Data Destruction",
    "T1486": "Data Encrypted for Impact",
    "T1489": "Service Stop",
    "T1499": "Endpoint Denial of Service",
    "T1505.003": "Server Software Component: Web Shell",
    "T1528": "Steal Application Access Token",
    "T1530": "Data from Cloud Storage",
    "T1531": "Account Access Removal",
    "T1534": "Internal Spearphishing",
    "T1537": "Transfer Data to Cloud Account",
    "T1538": "Cloud Service Dashboard",
    "T1539": "Steal Web Session Cookie",
    "T1548": "Abuse Elevation Control Mechanism",
    "T1548.003": "Abuse Elevation Control Mechanism: Sudo and Sudo Caching",
    "T1548.005": "Abuse Elevation Control Mechanism: Temporary Elevated Cloud Access",
    "T1550": "Use Alternate Authentication Material",
    "T1550.001": "Use Alternate Authentication Material: Application Access Token",
    "T1550.004": "Use Alternate Authentication Material: Web Session Cookie",
    "T1552": "Unsecured Credentials",
    "T1552.001": "Unsecured Credentials: Credentials In Files",
    "T1555": "Credentials from Password Stores",
    "T1555.005": "Credentials from Password Stores: Password Managers",
    "T1556": "Modify Authentication Process",
    "T1556.006": "Modify Authentication Process: Multi-Factor Authentication",
    "T1556.007": "Modify Authentication Process: Hybrid Identity",
    "T1556.009": "Modify Authentication Process: Conditional Access Policies",
    "T1557": "Adversary-in-the-Middle",
    "T1562": "Impair Defenses",
    "T1562.001": "Impair Defenses: Disable or Modify Tools",
    "T1562.004": "Impair Defenses: Disable or Modify System Firewall",
    "T1562.006": "Impair Defenses: Indicator Blocking",
    "T1562.007": "Impair Defenses: Disable or Modify Cloud Firewall",
    "T1562.008": "Impair Defenses: Disable or Modify Cloud Logs",
    "T1564.008": "Hide Artifacts: Email Hiding Rules",
    "T1566": "Phishing",
    "T1566.001": "Phishing: Spearphishing Attachment",
    "T1566.002": "Phishing: Spearphishing Link",
    "T1567": "Exfiltration Over Web Service",
    "T1567.002": "Exfiltration Over Web Service: Exfiltration to Cloud Storage",
    "T1572": "Protocol Tunneling",
    "T1583.001": "Acquire Infrastructure: Domains",
    "T1584.001": "Compromise Infrastructure: Domains",
    "T1584.002": "Compromise Infrastructure: DNS Server",
    "T1586.002": "Compromise Accounts: Email Accounts",
    "T1588.004": "Obtain Capabilities: Digital Certificates",
    "T1589": "Gather Victim Identity Information",
    "T1589.001": "Gather Victim Identity Information: Credentials",
    "T1606": "Forge Web Credentials",
    "T1606.002": "Forge Web Credentials: SAML Tokens",
    "T1621": "Multi-Factor Authentication Request Generation",
    "T1648": "Serverless Execution",
    "T1649": "Steal or Forge Authentication Certificates",
    "T1654": "Log Enumeration",
    "T1656": "Impersonation",
    "T1667": "Email Bombing",
}
NOT_COVERED: Mapping[str, tuple[str, str]] = {
    "T1018": ("Remote System Discovery", "reads are not in the audit logs of these services"),
    "T1111": ("Multi-Factor Authentication Interception", "no service records the interception"),
    "T1190": ("Exploit Public-Facing Application", "needs Cloudflare's HTTP and firewall logs"),
    "T1201": ("Password Policy Discovery", "reading a policy is not recorded"),
    "T1213.003": ("Data from Information Repositories: Code", "no source code host is collected"),
    "T1491.002": ("Defacement: External Defacement", "the audit logs do not hold page content"),
    "T1496": ("Resource Hijacking", "needs the billing and activity logs of cloud providers"),
    "T1498": ("Network Denial of Service", "needs Cloudflare's traffic logs"),
    "T1518": ("Software Discovery", "reading the list of applications is not recorded"),
    "T1526": ("Cloud Service Discovery", "reads are not in the audit logs of these services"),
    "T1550.003": ("Pass the Ticket", "needs the logs of domain controllers"),
    "T1552.008": ("Chat Messages", "the audit logs do not hold the text of messages"),
    "T1598": ("Phishing for Information", "only the mail itself shows it"),
}
"""Techniques of ATT&CK's SaaS, identity provider and office suite platforms without a rule."""

_PREFIX = "attack.t"


class Tagged(Protocol):
    """The part of a rule that its coverage depends on."""

    @property
    def tags(self) -> Iterable[str]: ...
    @property
    def product(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A technique with the number of rules per vendor, or the reason why there is none."""

    technique: str
    name: str
    rules: Mapping[str, int]
    reason: str = ""


def techniques(tags: Iterable[str]) -> list[str]:
    """Return the techniques that tags name, such as "T1098.003"."""
    return ["T" + tag.removeprefix(_PREFIX) for tag in tags if tag.startswith(_PREFIX)]


def coverage(rules: Iterable[Tagged]) -> list[Covered]:
    """Return all techniques in the order of their ids, with the number of rules per vendor."""
    counts: dict[str, dict[str, int]] = {}
    for rule in rules:
        vendor = VENDORS.get(rule.product, ALL)
        for technique in techniques(rule.tags):
            found = counts.setdefault(technique, {})
            found[vendor] = found.get(vendor, 0) + 1
    covered = [
        Covered(technique=each, name=TECHNIQUES.get(each, ""), rules=found)
        for each, found in counts.items()
    ]
    missing = [
        Covered(technique=each, name=name, rules={}, reason=reason)
        for each, (name, reason) in NOT_COVERED.items()
        if each not in counts
    ]
    return sorted([*covered, *missing], key=lambda each: each.technique)


def markdown(found: Iterable[Covered]) -> str:
    """Return the coverage as two tables: rules per technique and vendor, and the gaps."""
    rows = list(found)
    return "\n".join([*_matrix(rows), "", *_gaps(rows), ""])


def _matrix(rows: Iterable[Covered]) -> Iterator[str]:
    columns = [*VENDORS.values(), ALL]
    yield "| technique | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for row in rows:
        if row.rules:
            cells = (str(row.rules.get(column, "")) for column in columns)
            yield f"| {_link(row)} | " + " | ".join(cells) + " |"


def _gaps(rows: Iterable[Covered]) -> Iterator[str]:
    yield "| not covered | reason |"
    yield "|---|---|"
    for row in rows:
        if not row.rules:
            yield f"| {_link(row)} | {row.reason} |"


def _link(row: Covered) -> str:
    path = row.technique.replace(".", "/")
    return f"[{row.technique}](https://attack.mitre.org/techniques/{path}/) {row.name}".rstrip()
