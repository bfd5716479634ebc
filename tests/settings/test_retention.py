"""The section [retention]: days to keep per integration, or per stream, which goes first."""

import pytest

from pipelines.errors import ConfigurationError
from pipelines.settings import Settings, validated
from pipelines.settings.retention import RetentionSettings


def configured(**section):
    return validated(Settings, {"retention": section}, "auditlake.toml").retention


def test_nothing_is_deleted_by_default():
    assert RetentionSettings().kept("okta", "system_log") is None
    assert configured().days == {}


def test_the_period_of_a_stream_goes_before_that_of_its_integration():
    kept = configured(days={"okta": 730, "google_workspace/drive": 90, "google_workspace": 365})
    assert kept.kept("okta", "system_log") == 730
    assert kept.kept("google_workspace", "drive") == 90
    assert kept.kept("google_workspace", "login") == 365
    assert kept.kept("okta_2", "system_log") is None


@pytest.mark.parametrize("days", [0, -1, 1.5, "30d", True])
def test_days_are_whole_and_at_least_one(days):
    with pytest.raises(ConfigurationError, match=r"retention\.days\.okta: "):
        configured(days={"okta": days})


@pytest.mark.parametrize("name", ["", "a b", "okta/", "okta/a/b", "../okta", "okta/*"])
def test_a_name_is_that_of_an_integration_or_a_stream(name):
    with pytest.raises(ConfigurationError, match="give the name of an integration, or of a stream"):
        configured(days={name: 30})


def test_the_rule_is_never_empty():
    with pytest.raises(ConfigurationError, match=r"retention\.why"):
        configured(why="")
