"""Settings as people paste them are mended or refused at load, for every vendor and every key."""

import pytest

from pipelines import registry
from pipelines.errors import ConfigurationError

GUID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-8888-7777-6666-555555555555"
SECRET = "s3cret~tok.en_of-this-test1234"
HEX = "023e105f4ecef8ad9ca31a8372d0c353"
SEVERAL = "/".join([GUID, OTHER, HEX, HEX[::-1], HEX[:24], HEX[23::-1]])
MICROSOFT = {"tenant_id": GUID, "client_id": GUID, "client_secret": SECRET}
KEYS = {
    "okta": {"base_url": "https://acme.okta.com", "api_token": SECRET},
    "cloudflare": {"account_id": HEX, "api_token": SECRET},
    "atlassian": {"org_id": GUID, "api_key": SECRET},
    "jumpcloud": {"api_key": SECRET},
    "opsgenie": {"api_key": SECRET},
    "successor": {
        "kind": "opsgenie", "cloud_id": GUID, "email": "a@example.com", "api_token": SECRET
    },
    "entra_id": MICROSOFT,
    "office_365": MICROSOFT,
    "service_account": {
        "kind": "jumpcloud", "org_id": HEX[:24], "client_id": GUID, "client_secret": SECRET
    },
}  # fmt: skip
TOKENS = [
    (name, key)
    for name, keys in KEYS.items()
    for key in keys
    if key in ("api_token", "api_key", "client_secret")
]
IDS = [
    (name, key) for name, keys in KEYS.items() for key in keys if key.endswith("_id")
]  # fmt: skip


def loaded(name, **keys):
    return registry.source(name, {**KEYS[name], **keys})


def refusal(name, **keys):
    with pytest.raises(ConfigurationError) as error:
        loaded(name, **keys)
    said = str(error.value)
    assert SECRET not in said
    assert all(line.startswith(f"integrations.{name}: ") for line in said.splitlines())
    return said


@pytest.mark.parametrize(("name", "key"), TOKENS)
@pytest.mark.parametrize(
    "typed",
    [
        "{}", " {}\n", "Bearer {}", "bearer {}", "SSWS {}", "GenieKey {}", '"{}"',
        "Authorization: Bearer {}", "Authorization: SSWS {}", "x-api-key: {}",
    ],
)  # fmt: skip
def test_a_token_is_accepted_with_what_people_paste_around_it(name, key, typed):
    settings = loaded(name, **{key: typed.format(SECRET)}).settings
    assert getattr(settings, key).get_secret_value() == SECRET


@pytest.mark.parametrize(("name", "key"), TOKENS)
@pytest.mark.parametrize(
    "typed", ["", "  ", "Bearer ", '""', "two words", "tok\u00e9n", "a\u200bb"]
)
def test_a_token_that_cannot_be_one_is_refused(name, key, typed):
    assert f"{key}: " in refusal(name, **{key: typed})


@pytest.mark.parametrize(
    ("name", "key", "typed", "said"),
    [
        ("okta", "api_token", "ATATT3xFfGF0", "the API token of an Atlassian account"),
        ("okta", "api_token", "-----BEGIN PRIVATE KEY-----", "a private key"),
        ("okta", "api_token", "eyJraWQi.eyJ2ZXIi.c2ln", "an access token"),
        ("atlassian", "api_key", "ATATT3xFfGF0", "the API token of an Atlassian account"),
        ("jumpcloud", "api_key", "ATCTT3xFfGN0", "the API key of an Atlassian organization"),
        ("cloudflare", "api_token", "jca_abc", "a JumpCloud API key"),
        ("opsgenie", "api_key", "ATATT3xFfGF0", "the API token of an Atlassian account"),
        ("successor", "api_token", GUID, "an Opsgenie key: set it as api_key"),
    ],
)
def test_a_key_of_another_service_is_named(name, key, typed, said):
    assert said in refusal(name, **{key: typed})


@pytest.mark.parametrize(
    ("name", "key", "typed"),
    [("atlassian", "api_key", "ATCTT3xF"), ("successor", "api_token", "ATATT3xF"),
     ("jumpcloud", "api_key", "jca_1234")],
)  # fmt: skip
def test_a_services_own_key_is_accepted(name, key, typed):
    assert loaded(name, **{key: typed})


@pytest.mark.parametrize(("name", "key"), IDS)
def test_an_id_is_taken_out_of_an_address_and_a_blank_one_is_refused(name, key):
    right = KEYS[name][key]
    for typed in (f" {right}\n", f'"{right}"', f"https://console.example/o/{right}/overview?x=1"):
        assert getattr(loaded(name, **{key: typed}).settings, key) == right
    for typed in ("", " ", "https://console.example/", SEVERAL):
        assert f"{key}: " in refusal(name, **{key: typed})


@pytest.mark.parametrize(
    ("name", "key", "typed", "meant"),
    [
        ("okta", "base_url", "https://acme-admin.okta.com", "https://acme.okta.com"),
        ("okta", "base_url", "acme.oktapreview.com/", "https://acme.oktapreview.com"),
        ("okta", "base_url", "HTTPS://Acme-Admin.Okta.com/admin/users", "https://acme.okta.com"),
        ("okta", "base_url", "https://acme.okta.com/api/v1/", "https://acme.okta.com"),
        ("okta", "base_url", "https://id.acme.com/gateway", "https://id.acme.com/gateway"),
        ("entra_id", "base_url", "https://Graph.Microsoft.US/v1.0/", "https://graph.microsoft.us"),
        ("entra_id", "base_url", "graph.microsoft.com/beta", "https://graph.microsoft.com"),
        (
            "office_365", "base_url", "https://manage.office365.us/api/v1.0",
            "https://manage.office365.us",
        ),
        ("atlassian", "base_url", "https://api.atlassian.com/admin/v1", "https://api.atlassian.com"),
        (
            "cloudflare", "base_url", "https://api.cloudflare.com",
            "https://api.cloudflare.com/client/v4",
        ),
        (
            "jumpcloud", "base_url", "https://console.eu.jumpcloud.com/login",
            "https://api.eu.jumpcloud.com/insights/directory/v1",
        ),
        (
            "jumpcloud", "base_url", "https://api.jumpcloud.com",
            "https://api.jumpcloud.com/insights/directory/v1",
        ),
        ("opsgenie", "base_url", "https://api.eu.opsgenie.com/v2", "https://api.eu.opsgenie.com"),
        (
            "successor", "operations_url", "https://api.atlassian.com/jsm/ops/api",
            "https://api.atlassian.com",
        ),
        ("okta", "base_url", "http://127.0.0.1:8700/okta", "http://127.0.0.1:8700/okta"),
    ],
)  # fmt: skip
def test_an_address_is_mended_where_its_meaning_is_clear(name, key, typed, meant):
    assert getattr(loaded(name, **{key: typed}).settings, key) == meant


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("okta", {"base_url": 5}, "give it as text"),
        ("okta", {"base_url": "https://[::1"}, "not a valid address"),
        ("okta", {"base_url": ""}, "not a valid address"),
        ("atlassian", {"base_url": "https://acme.atlassian.net"}, "set https://api.atlassian.com"),
        ("atlassian", {"base_url": "https://admin.atlassian.com/o/x"}, "set https://api.atlassian"),
        ("cloudflare", {"base_url": "https://dash.cloudflare.com"}, "set https://api.cloudflare"),
        ("opsgenie", {"base_url": "https://api.atlassian.com/jsm/ops/api"}, "not valid there"),
        ("opsgenie", {"base_url": "https://acme.app.opsgenie.com"}, "set https://api.opsgenie.com"),
        (
            "successor",
            {"operations_url": "https://acme.atlassian.net"},
            "set https://api.atlassian",
        ),
        ("successor", {"email": "Ann"}, "give an e-mail address"),
        ("office_365", {"tenant_id": "contoso.onmicrosoft.com"}, "the directory's GUID"),
        ("entra_id", {"tenant_id": "Common"}, "give the ID of yours"),
        ("entra_id", {"base_url": "https://proxy.corp.example"}, "authority_url: missing"),
        (
            "entra_id",
            {
                "base_url": "https://graph.microsoft.us/v1.0",
                "authority_url": "https://login.microsoftonline.com",
            },
            "set authority_url to https://login.microsoftonline.us",
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_the_right_form(name, keys, said):
    assert said in refusal(name, **keys)


@pytest.mark.parametrize(
    ("name", "typed", "login"),
    [
        ("entra_id", "https://GRAPH.microsoft.us/v1.0", "https://login.microsoftonline.us"),
        ("entra_id", "https://dod-graph.microsoft.us/", "https://login.microsoftonline.us"),
        ("entra_id", "https://microsoftgraph.chinacloudapi.cn/x", "https://login.chinacloudapi.cn"),
        ("entra_id", "https://graph.microsoft.com", "https://login.microsoftonline.com"),
        ("office_365", "https://manage.OFFICE365.us/api", "https://login.microsoftonline.us"),
        ("office_365", "https://manage-gcc.office.com/api", "https://login.microsoftonline.com"),
    ],
)
def test_a_secret_goes_to_the_sign_in_of_its_own_cloud_only(name, typed, login):
    settings = loaded(name, base_url=typed).settings
    assert settings.authority_url == login
    spelled = f"{login.upper()}/{GUID}/oauth2/v2.0/token"
    spelled = spelled.replace("HTTPS", "https")
    assert loaded(name, base_url=typed, authority_url=spelled).settings.authority_url == login


def test_googles_settings_are_mended_alike():
    from sandbox.services import google_workspace

    keys = google_workspace.settings("http://127.0.0.1:1/google_workspace")

    def google(**more):
        return registry.source("google_workspace", {**keys, **more}).settings

    assert google(subject="mailto:a@example.com").subject == "a@example.com"
    assert google(base_url="https://admin.googleapis.com/admin/reports/v1").base_url == (
        "https://admin.googleapis.com"
    )
    for wrong in ({"subject": "Ann"}, {"subject": ""}, {"customer_id": ""}):
        with pytest.raises(ConfigurationError):
            google(**wrong)
