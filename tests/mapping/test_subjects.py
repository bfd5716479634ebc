"""Address, severity and subject, under the names that each service of a vendor gives them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import registry
from tests.mapping import rows

ADDRESS = "203.0.113.7"
SPELLINGS = (ADDRESS, f"{ADDRESS}:51812", f"[{ADDRESS}]:51812", f"::ffff:{ADDRESS}", [ADDRESS])


def office(record_type, operation="Act", **more):
    record = {"RecordType": record_type, "Operation": operation, "UserType": 4, **more}
    return "office_365", "general", record


def mail(**parameters):
    given = [{"name": name, "value": value} for name, value in parameters.items()]
    return "google_workspace", "gmail", {"events": [{"name": "delivery", "parameters": given}]}


def signed_in(details):
    event = {"activityDisplayName": "Validate local account credentials"}
    return "entra_id", "directory_audits", event | {"additionalDetails": details}


@pytest.mark.parametrize("spelled", SPELLINGS, ids=str)
@pytest.mark.parametrize(
    "name",
    ["ClientIP", "ClientIPAddress", "ActorIpAddress", "UserIp", "ClientIpAddress", "ClientIPs",
     "SenderIp", "SenderIP"],
)  # fmt: skip
def test_office_365_has_an_address_under_every_name(name, spelled):
    assert rows.row(*office(28, **{name: spelled}))["source_ip"] == ADDRESS


@pytest.mark.parametrize(
    "record",
    [
        ("okta", "system_log", {"client": {"ipAddress": ADDRESS}}),
        ("okta", "system_log", {"request": {"ipChain": [{"ip": ADDRESS}]}}),
        ("okta", "system_log", {"client": {"ipChain": [{"ip": ADDRESS}]}}),
        mail(client_ip=ADDRESS),
        mail(message_info=json.dumps({"connection_info": {"client_ip": ADDRESS}})),
        signed_in([{"key": "ClientIpAddress", "value": f"{ADDRESS}, 10.0.0.1"}]),
        signed_in([{"key": "ipaddr", "value": ADDRESS}]),
        office(40, Data=json.dumps({"sip": ADDRESS})),
        ("jumpcloud", "directory_insights", {"src_ip": ADDRESS}),
        ("jumpcloud", "directory_insights", {"client_ip": ADDRESS}),
        ("cloudflare", "audit_logs", {"actor": {"ip": ADDRESS}}),
        ("cloudflare", "audit_logs", {"ActorIP": ADDRESS}),
        ("cloudflare", "audit_logs_v2", {"ActorIPAddress": ADDRESS}),
        ("atlassian", "events", {"attributes": {"location": {"ip": ADDRESS}}}),
        ("opsgenie", "logs", {"_incomingData": {"_httpHeaders": {"X-Forwarded-For": ADDRESS}}}),
    ],
    ids=lambda record: record[0],
)
def test_every_vendor_has_an_address_under_every_name(record):
    assert rows.row(*record)["source_ip"] == ADDRESS


@pytest.mark.parametrize(
    "record",
    [
        ("okta", "system_log", {"severity": "HIGH"}),
        ("google_workspace", "rules",
         {"events": [{"parameters": [{"name": "severity", "value": "HIGH"}]}]}),
        ("google_workspace", "rules",
         {"events": [{"parameters": [{"name": "SEVERITY", "value": "High"}]}]}),
        ("entra_id", "sign_ins", {"riskLevelDuringSignIn": "high"}),
        office(40, Severity="High"),
        office(98, AlertSeverity="High"),
        office(11, PolicyDetails=[{"Rules": [{"Severity": "Low"}, {"Severity": "High"}]}]),
        office(64, Data=json.dumps({"Severity": "High"})),
        office(40, Data=json.dumps({"sev": "High"})),
        office(40, Severity="N/A", Data=json.dumps({"sev": "High"})),
        ("jumpcloud", "directory_insights", {"severity": "HIGH"}),
        ("opsgenie", "logs", {"level": "HIGH"}),
    ],
    ids=lambda record: record[0],
)  # fmt: skip
def test_every_vendor_has_a_severity_under_every_name(record):
    assert rows.row(*record)["severity"] == "high"


SECURITY = {
    # Number in Microsoft's AuditLogRecordType: its name.
    28: "ThreatIntelligence",
    29: "MailSubmission",
    34: "ThreatFinder",
    40: "SecurityComplianceAlerts",
    41: "ThreatIntelligenceUrl",
    47: "ThreatIntelligenceAtpContent",
    51: "HygieneEvent",
    61: "InformationWorkerProtection",
    62: "Campaign",
    64: "AirInvestigation",
    68: "ComplianceSupervisionExchange",
    78: "WDATPAlerts",
    86: "AirManualInvestigation",
    89: "AirAdminActionInvestigation",
    90: "MSTIC",
    98: "MCASAlerts",
    115: "MAPGAlerts",
    128: "FilteringMailMetadata",
    166: "Alert",
    167: "AlertStatus",
    168: "AlertIncident",
    169: "IncidentStatus",
    232: "MS365DIncident",
}
WHOM, FROM, LINK, FILE, SUBJECT = (
    "ann@contoso.example",
    "eve@evil.example",
    "https://evil.example/x",
    "payroll.exe",
    "Invoice",
)
ENTITY = {"Type": "mailMessage", "Recipient": WHOM, "Sender": FROM, "Urls": [LINK],
          "Subject": SUBJECT, "Files": [{"Name": FILE}]}  # fmt: skip
LETTER = {"Recipients": [WHOM], "From": FROM, "Subject": SUBJECT,
          "AttachmentData": [{"FileName": FILE}]}  # fmt: skip


@pytest.mark.parametrize("record_type", SECURITY, ids=SECURITY.get)
@pytest.mark.parametrize("as_text", [False, True])
def test_the_records_of_security_products_are_findings_about_something(record_type, as_text):
    given = str(record_type) if as_text else record_type
    record = office(given, "TIMailData", AlertSeverity="High", Recipients=[WHOM], Url=LINK,
                    Subject=SUBJECT, FileData={"FileName": FILE})  # fmt: skip
    found = rows.row(*record)
    assert (found["class_uid"], found["severity"]) == (2004, "high")
    assert {WHOM, LINK, SUBJECT, FILE} <= {target["name"] for target in found["targets"]}


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"Recipients": [WHOM, None], "P2Sender": FROM}, {WHOM, FROM}),
        ({"Recipients": f"{WHOM};bob@contoso.example"}, {WHOM, "bob@contoso.example"}),
        ({"Recipients": [{"Address": WHOM, "Name": "Ann"}]}, {WHOM}),
        ({"P1Sender": FROM, "AttachmentData": [{"FileName": FILE}, None]}, {FROM, FILE}),
        ({"URL": LINK}, {LINK}),
        ({"FileData": {"FileName": FILE}, "LastModifiedBy": WHOM}, {FILE, WHOM}),
        ({"EventValue": WHOM}, {WHOM}),
        ({"ExchangeDetails": LETTER}, {WHOM, FROM, SUBJECT, FILE}),
        ({"Data": json.dumps({"trc": WHOM, "tsd": FROM})}, {WHOM, FROM}),
        ({"Data": json.dumps({"f3u": WHOM})}, {WHOM}),
        ({"Data": json.dumps({"suid": WHOM})}, {WHOM}),
        ({"Data": json.dumps({"etype": "User", "eid": WHOM})}, {WHOM}),
        ({"Data": json.dumps({"Entities": [ENTITY]})}, {WHOM, FROM, LINK, SUBJECT, FILE}),
        ({"Data": {"Entities": [ENTITY]}}, {WHOM, FROM, LINK, SUBJECT, FILE}),
        ({"Actions": [json.dumps({"Entities": [ENTITY]})]}, {WHOM, FROM, LINK, SUBJECT, FILE}),
        ({"Data": json.dumps({"Entities": [{"Type": "mailbox", "Upn": WHOM}]})}, {WHOM}),
        ({"Data": json.dumps({"Entities": [{"Type": "url", "Url": LINK}]})}, {LINK}),
        ({"Data": json.dumps({"Entities": [{"Type": "file", "Name": FILE}]})}, {FILE}),
        ({"AlertId": "a1", "Name": "Odd", "EntityType": "MaliciousUrl", "AlertEntityId": LINK},
         {"Odd", LINK}),
        ({"InvestigationName": "Zapped"}, {"Zapped"}),
    ],
)  # fmt: skip
def test_a_finding_names_its_subject_wherever_the_product_puts_it(more, names):
    found = rows.row(*office(64, "AirInvestigationData", ObjectId="o1", **more))
    assert names <= {target["name"] for target in found["targets"]}
    assert found["target_name"]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"ExchangeMetaData": {"Subject": SUBJECT, "From": FROM, "To": [WHOM], "BCC": ["b@a.io"],
                               "CC": None}}, {SUBJECT, FROM, WHOM, "b@a.io"}),
        ({"ExchangeMetaData": {"MessageID": "<1@a.io>", "To": WHOM}}, {WHOM}),
        ({"EndpointMetaData": {"FilePath": f"C:\\x\\{FILE}", "DeviceName": "PC-1"}},
         {FILE, "PC-1"}),
        ({"SharePointMetaData": {"FileName": FILE, "From": FROM}}, {FILE}),
    ],
)  # fmt: skip
def test_a_match_of_a_dlp_policy_names_the_people_and_the_file(more, names):
    record = {"Operation": "DlpRuleMatch", "PolicyDetails": [{"PolicyName": "Cards"}], **more}
    found = rows.row("office_365", "dlp", record)
    assert {"Cards", *names} <= {target["name"] for target in found["targets"]}
    assert found["target_name"] not in {"Cards", "PC-1"}


@pytest.mark.parametrize(
    ("stream", "event", "more", "name"),
    [
        ("rules", "rule_match", {"resource_id": "r1", "resource_title": FILE}, FILE),
        ("chrome", "MALWARE_TRANSFER", {"CONTENT_NAME": FILE}, FILE),
        ("chrome", "UNSAFE_SITE_VISIT", {"URL": LINK}, LINK),
    ],
)
def test_a_finding_of_google_names_the_file_and_the_link(stream, event, more, name):
    parameters = [{"name": key, "value": value} for key, value in more.items()]
    given = {"events": [{"name": event, "parameters": parameters}]}
    assert rows.row("google_workspace", stream, given)["target_name"] == name


def test_a_message_id_is_no_person():
    data = json.dumps({"etype": "MailMessage", "eid": "<1@bad.example>", "trc": WHOM})
    found = rows.row(*office(40, AlertId="a1", Data=data))
    assert {t["name"] for t in found["targets"] if t["type"] == "User"} == {WHOM}


def test_a_subject_that_stands_in_several_places_is_one_target():
    record = office(40, Recipients=[WHOM], Data=json.dumps({"trc": WHOM, "Entities": [ENTITY]}))
    names = [t["name"] for t in rows.row(*record)["targets"]]
    assert names.count(WHOM) == 1


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "x", WHOM, LINK]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Entities", "Recipient", "Urls", "Files", "Address", "Type", "trc"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
FIELDS = ("Data", "Actions", "Recipients", "AttachmentData", "ExchangeDetails", "FileData", "Url")


@given(st.dictionaries(st.sampled_from(FIELDS), ANY | ANY.map(json.dumps), min_size=1))
def test_odd_fields_of_a_finding_cost_no_column(more):
    events, faults = rows.normalised("office_365", "general", [office(64, **more)[2]])
    assert (events.height, faults) == (1, {})


@pytest.mark.parametrize("kind", registry.kinds())
def test_every_vendor_has_findings_or_authentication_among_its_classes(kind):
    streams = [stream for of, stream in rows.STREAMS if of == kind]
    found = [r for s in streams for r in rows.rows(kind, s, *rows.records(kind, s))]
    assert any(row["source_ip"] for row in found) and any(row["target_name"] for row in found)
