"""The tenant that the settings of each kind identify."""

import pytest

from pipelines import registry
from pipelines.lake import streams
from pipelines.sdk import tenant

ONE, OTHER = "11111111-2222-3333-4444-555555555555", "77777777-2222-3333-4444-555555555555"
SECRET = "s3cretof16letters"
MICROSOFT = {"tenant_id": ONE, "client_id": "c", "client_secret": SECRET}
KEY = """{"token_uri": "https://a.example", "client_email": "a@b.example",
    "private_key": "s3cretof16letters"}"""
KEYS = {
    "atlassian": {"org_id": ONE, "api_key": SECRET},
    "cloudflare": {"account_id": "1" * 32, "organization_id": "2" * 32, "api_token": SECRET},
    "entra_id": MICROSOFT,
    "google_workspace": {"subject": "a@acme.example"},
    "jumpcloud": {"api_key": SECRET, "org_id": ONE},
    "office_365": MICROSOFT,
    "okta": {"base_url": "https://acme.okta.com", "api_token": SECRET},
    "opsgenie": {"api_key": SECRET, "cloud_id": ONE, "email": "a@b.example",
                 "api_token": f"ATATT{SECRET}"},
}  # fmt: skip
OTHERS = [
    ("atlassian", {"org_id": OTHER}),
    ("cloudflare", {"account_id": "3" * 32, "organization_id": "4" * 32}),
    ("entra_id", {"tenant_id": OTHER}),
    ("google_workspace", {"subject": "a@umbrella.example"}),
    ("jumpcloud", {"org_id": OTHER}),
    ("jumpcloud", {"org_id": None, "provider_id": OTHER}),
    ("jumpcloud", {"org_id": None, "base_url": "https://api.eu.jumpcloud.com"}),
    ("office_365", {"tenant_id": OTHER}),
    ("okta", {"base_url": "https://umbrella.okta.com"}),
    ("opsgenie", {"base_url": "https://api.eu.opsgenie.com", "cloud_id": OTHER}),
]
SAME = [
    ("atlassian", {"api_key": SECRET[::-1], "history": "9d"}),
    ("cloudflare", {"api_token": SECRET[::-1]}),
    ("entra_id", {"tenant_id": ONE.upper(), "client_id": "d", "client_secret": SECRET[::-1]}),
    ("entra_id", {"tenant_id": "acme.onmicrosoft.com"}),
    ("google_workspace", {"subject": "b@acme.example"}),
    ("google_workspace", {"customer_id": "C01234567"}),
    ("jumpcloud", {"org_id": [ONE, OTHER]}),
    ("jumpcloud", {"base_url": "https://api.eu.jumpcloud.com"}),
    ("jumpcloud", {"org_id": None}),
    ("office_365", {"publisher_id": OTHER}),
    ("okta", {"base_url": "https://acme-admin.okta.com/", "api_token": SECRET[::-1]}),
    ("okta", {"base_url": "http://127.0.0.1:8700/okta"}),
    ("opsgenie", {"api_key": SECRET[::-1], "email": "c@d.example"}),
]


@pytest.fixture
def tenants(tmp_path):
    """Return the function: kind, changed settings -> tenant per stream."""
    (tmp_path / "key.json").write_text(KEY)
    file = {"google_workspace": {"credentials": str(tmp_path / "key.json")}}

    def of(kind, changed=()):
        keys = {**KEYS[kind], **file.get(kind, {}), **dict(changed)}
        source = registry.source(kind, {name: each for name, each in keys.items() if each})
        return {s.name: streams.facts_of(source, s).tenant for s in source.streams()}

    return of


@pytest.mark.parametrize(("kind", "changed"), OTHERS)
def test_every_stream_of_another_tenant_differs(tenants, kind, changed):
    known, current = tenants(kind), tenants(kind, changed)
    assert known.keys() == current.keys()
    for name, text in known.items():
        assert tenant.difference(tenant.load(text), tenant.load(current[name]))


@pytest.mark.parametrize(("kind", "changed"), SAME)
def test_new_credentials_and_addresses_of_the_same_tenant_make_no_difference(
    tenants, kind, changed
):
    known, current = tenants(kind), tenants(kind, changed)
    for name, text in known.items():
        assert tenant.difference(tenant.load(text), tenant.load(current[name])) is None


@pytest.mark.parametrize("kind", sorted(registry.kinds()))
def test_every_kind_identifies_its_tenant_without_a_secret(tenants, kind):
    found = tenants(kind)
    assert all(found.values())
    assert SECRET not in str(found)


def test_the_first_name_that_both_have_decides():
    known = {"customer_id": "1", "domain": "a.example"}
    assert tenant.difference(known, {"customer_id": "1", "domain": "b.example"}) is None
    assert tenant.difference(known, {"customer_id": "2", "domain": "a.example"}) == "customer_id"
    assert tenant.difference(known, {"domain": "b.example"}) == "domain"
    assert tenant.difference(known, {"cloud_id": "3"}) is None
    assert tenant.difference({}, known) is None


def test_an_organisation_that_was_added_may_stay_alone():
    known = tenant.merged({"org_id": "1"}, {"org_id": tenant.listed(["2", "1"])})
    assert known == {"org_id": "1, 2"}
    assert tenant.difference(known, {"org_id": "2"}) is None
    assert tenant.difference(known, {"org_id": "3"}) == "org_id"


def test_a_tenant_is_read_as_it_was_written():
    for each in ({}, {"org_id": "1"}, {"b": "ü", "a": "1, 2"}):
        assert tenant.load(tenant.dump(each)) == each
