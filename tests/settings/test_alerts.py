"""The section [alerts]: receivers with their secrets, and routes that lead to them."""

import re
import tomllib
from datetime import time, timedelta
from pathlib import Path

import pytest

from pipelines import settings
from pipelines.errors import ConfigurationError
from pipelines.settings import Settings, validated

SLACK = {"kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/secret"}
MAIL = {
    "kind": "email",
    "host": "mail.example.com",
    "sender": "audit@example.com",
    "to": ["security@example.com"],
}


def configured(receiver=SLACK, **section):
    document = {"alerts": {"receivers": {"it": receiver}, **section}}
    return validated(Settings, document, "auditlake.toml").alerts


def test_nobody_is_told_by_default():
    assert Settings().alerts.receivers == {}
    assert Settings().alerts.effective_routes == ()
    assert Settings().alerts.alert_within == timedelta(hours=24)


def test_a_configuration_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("SLACK_URL", SLACK["url"])
    file = tmp_path / "auditlake.toml"
    file.write_text(
        "[alerts]\n"
        'alert_within = "12h"\n'
        'digest_at = "09:30"\n'
        'time_zone = "Europe/Berlin"\n'
        "[alerts.receivers.it]\n"
        'kind = "slack"\n'
        'url = { env = "SLACK_URL" }\n'
        'quiet_hours = { since = "22:00", until = "07:00" }\n'
        "[[alerts.routes]]\n"
        'receivers = ["it"]\n'
        'level = "high"\n'
    )
    found = settings.load(file).alerts
    assert (found.alert_within, found.digest_at) == (timedelta(hours=12), time(9, 30))
    assert found.receivers["it"].url.get_secret_value() == SLACK["url"]
    assert found.receivers["it"].quiet_hours.unless == "critical"
    assert str(found.zone("it")) == "Europe/Berlin"
    assert "secret" not in repr(found)


def test_without_routes_everything_from_medium_on_goes_to_all_receivers():
    (route,) = configured().effective_routes
    assert (route.level, route.receivers) == ("medium", ("it",))


@pytest.mark.parametrize(
    ("receiver", "section", "error"),
    [
        ({"kind": "fax"}, {}, "does not match any of the expected tags"),
        ({**SLACK, "url": "http://hooks.example.com/s3cr3t"}, {}, "use https"),
        ({**SLACK, "url": "https://user:s3cr3t@example.com"}, {}, "remove the user"),
        ({**SLACK, "url": "ftp://s3cr3t"}, {}, "not a valid address"),
        ({"kind": "webhook", "url": "https://e.com", "secret": "s3cr3t"}, {}, "24 to 64 bytes"),
        ({**MAIL, "tls": "none"}, {}, "loopback addresses only"),
        ({**MAIL, "user": "x"}, {}, "both user and password"),
        ({**MAIL, "to": ["a@b.c\r\nBcc: s3cr3t@x.y"]}, {}, "give an address"),
        ({**MAIL, "sender": "Ada <a@b.c>"}, {}, "give an address"),
        ({**MAIL, "to": []}, {}, "at least 1 item"),
        ({"kind": "apprise", "urls": ["json://s3cr3t?verify=no"]}, {}, "TLS is always verified"),
        ({**SLACK, "per_hour": 0}, {}, "per_hour"),
        (SLACK, {"routes": [{"receivers": ["other"]}]}, "no receiver is named 'other'"),
        (SLACK, {"routes": [{"receivers": ["it"], "level": "huge"}]}, "routes.0.level"),
        (SLACK, {"time_zone": "../etc/passwd"}, "not a known time zone"),
        (SLACK, {"digest_at": "24:00"}, "give a time of day"),
        (SLACK, {"heartbeat": "http://example.com"}, "use https"),
    ],
)
def test_what_cannot_work_is_refused_without_showing_a_value(receiver, section, error):
    with pytest.raises(ConfigurationError, match=error) as raised:
        configured(receiver, **section)
    assert "s3cr3t" not in str(raised.value)


def test_names_are_simple():
    with pytest.raises(ConfigurationError, match="use letters, digits"):
        validated(Settings, {"alerts": {"receivers": {"a b": SLACK}}}, "auditlake.toml")


def test_a_heartbeat_may_have_a_query():
    assert configured(heartbeat="https://hc.example.com/x?rid=1").heartbeat


PROJECT = Path(__file__).parents[2]


def explained():
    """Yield the configurations in the documentation and in the example."""
    yield from re.findall(r"```toml\n(.*?)```", (PROJECT / "docs/alerts.md").read_text(), re.DOTALL)
    example = (PROJECT / "auditlake.example.toml").read_text()
    section = re.search(r"# \[alerts\]\n.*?\n\n", example, re.DOTALL)[0]
    yield re.sub("^# ", "", section, flags=re.MULTILINE)


def test_what_the_documentation_shows_is_valid(monkeypatch):
    for name in ("SLACK_WEBHOOK", "PAGERDUTY_KEY", "HEARTBEAT_URL"):
        monkeypatch.setenv(name, "https://example.com/x")
    found = [validated(Settings, tomllib.loads(text), "it") for text in explained()]
    assert len(found) == 3
    assert all(each.alerts.is_used for each in found)
