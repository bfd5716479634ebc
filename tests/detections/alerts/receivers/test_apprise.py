"""Apprise sends to services that nothing else here knows."""

import json

import pytest

from pipelines.detections.alerts.receivers import apprise
from pipelines.settings.alerts import AppriseReceiver
from tests.detections.alerts.receivers.hostile import WAY, envelope, is_plain
from tests.detections.alerts.world import finding, receiving


def receiver(*urls):
    return AppriseReceiver(kind="apprise", urls=urls)


@pytest.fixture
def installed():
    return pytest.importorskip("apprise")


@pytest.mark.usefixtures("installed")
def test_a_message_is_sent_as_text():
    with receiving() as server:
        url = server.url.replace("http://", "json://")
        assert apprise.send(receiver(url), envelope(finding()), WAY).result == "sent"
    body = json.loads(server.got[0].body)
    assert body["title"] == "[HIGH] Administrator role granted: ada@\u200bexample.com"


@pytest.mark.usefixtures("installed")
def test_a_failure_may_have_arrived(caplog):
    with receiving(lambda _: (500, {}, b"")) as server:
        url = server.url.replace("http://", "json://u:s3cr3t@")
        outcome = apprise.send(receiver(url), envelope(), WAY)
    assert outcome.result == "unknown"
    assert "s3cr3t" not in outcome.receipt + caplog.text


@pytest.mark.usefixtures("installed")
def test_an_unknown_service_is_an_error_without_its_address():
    outcome = apprise.send(receiver("nonsense://s3cr3t"), envelope(), WAY)
    assert (outcome.result, outcome.receipt) == ("later", "Apprise does not know one of the urls")


def test_hostile_text_is_no_markup_of_any_service():
    title, text = apprise.texts(envelope())
    for one in (title, text):
        assert not set("<>`*") & set(one)
        assert "](" not in one
        assert "@everyone" not in one
        assert is_plain(one.replace("\u200b", ""))
