"""The registry finds every integration and reports each error of the configuration."""

import pkgutil

import pytest

from pipelines import integrations, registry
from pipelines.errors import ConfigurationError
from pipelines.settings import Settings, validated

OKTA = {"base_url": "https://acme.okta.com", "api_token": "s3cret-token"}


def settings(**chosen):
    return validated(Settings, {"integrations": chosen}, "auditlake.toml")


def test_every_module_of_the_package_is_an_integration_of_its_own_name():
    modules = {found.name for found in pkgutil.iter_modules(integrations.__path__)}
    assert set(registry.kinds()) == modules
    assert all(registry.kind(name).kind == name for name in modules)


def test_an_unknown_kind_is_reported_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"unknown kind 'octa': use one of .*okta"):
        registry.kind("octa")
    with pytest.raises(ConfigurationError, match=r"integrations\.mine: kind: unknown kind 'octa'"):
        registry.source("mine", {"kind": "octa"})


def test_an_instance_may_have_another_name_than_its_kind():
    source = registry.source("second-okta", {**OKTA, "kind": "okta"})
    assert (source.name, source.kind) == ("second-okta", "okta")


def test_all_configured_integrations_or_those_named_are_returned():
    chosen = settings(okta=OKTA, jumpcloud={"api_key": "x" * 20}, other={**OKTA, "kind": "okta"})
    assert [s.name for s in registry.sources(chosen)] == ["okta", "jumpcloud", "other"]
    assert [s.name for s in registry.sources(chosen, ("other", "okta"))] == ["okta", "other"]


def test_a_name_that_is_not_configured_is_reported_with_those_that_are():
    with pytest.raises(ConfigurationError, match="entra_id: not configured; configured: okta"):
        registry.sources(settings(okta=OKTA), ("entra_id",))
    with pytest.raises(ConfigurationError, match="okta: not configured; configured: none"):
        registry.sources(settings(), ("okta",))


def test_errors_of_several_integrations_are_reported_together_and_show_no_secret():
    wrong = {**OKTA, "streams": ["no_log"]}
    chosen = settings(okta=wrong, jumpcloud={"api_key": "x" * 20}, other={"kind": "octa"})
    with pytest.raises(ConfigurationError) as error:
        registry.sources(chosen, ("jumpcloud",))
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["integrations.okta", "integrations.other"]
    assert "'no_log' is not one of system_log" in lines[0]
    assert OKTA["api_token"] not in str(error.value)


def test_a_webhook_secret_is_refused_where_the_service_has_no_webhooks():
    keys = {"tenant_id": "t", "client_id": "c", "client_secret": "x" * 20}
    assert registry.source("entra_id", keys)
    with pytest.raises(ConfigurationError, match=r"webhook_secret: .* has no webhooks"):
        registry.source("entra_id", {**keys, "webhook_secret": "s" * 32})


@pytest.mark.parametrize("name", ["acts", "findings"])
def test_the_names_of_logs_of_auditlake_are_no_names_of_integrations(name):
    with pytest.raises(ConfigurationError, match=f"integrations.{name}: .*choose another"):
        registry.source(name, {**OKTA, "kind": "okta"})
