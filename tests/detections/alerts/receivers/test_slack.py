"""Slack gets blocks of plain text, in which nothing mentions, links or formats."""

import json

from pipelines.detections.alerts.receivers import slack
from pipelines.settings.alerts import SlackReceiver
from tests.detections.alerts.receivers.hostile import WAY, envelope, is_plain
from tests.detections.alerts.world import finding, receiving


def texts(body):
    return [body["text"], *(block["text"]["text"] for block in body["blocks"])]


def test_a_message_says_what_was_found():
    with receiving(lambda _: (200, {}, b"ok")) as server:
        receiver = SlackReceiver(kind="slack", url=f"{server.url}/services/T/B/x")
        assert slack.send(receiver, envelope(finding()), WAY).receipt == "200"
    body = json.loads(server.got[0].body)
    header, section = (block["text"]["text"] for block in body["blocks"])
    assert header == "[HIGH] Administrator role granted: ada@example.com"
    assert "Ada granted Bob a role" in section
    assert "Rule: 11111111" in section
    assert "by A. Writer (DRL-1.1)" in section
    assert "About the rule: https://example.com/rule" in section
    assert "Open: https://audit.example.com/findings?id=" in section


def test_hostile_text_mentions_nobody_and_is_no_link():
    body = slack.body(envelope())
    assert all(block["text"]["type"] == "plain_text" for block in body["blocks"])
    assert (body["mrkdwn"], body["parse"], body["link_names"]) == (False, "none", False)
    for text in texts(body):
        assert "<" not in text
        assert ">" not in text
        assert "http://" not in text
        assert "https://evil" not in text
        assert is_plain(text)


def test_lengths_are_limited_and_no_entity_is_cut():
    row = finding(title="&" * 5000, message="<" * 10_000, entity="&" * 900)
    body = slack.body(envelope(row))
    header, *sections = (block["text"]["text"] for block in body["blocks"])
    assert len(header) <= 150
    assert all(len(text) <= 3000 for text in sections)
    for text in (header, *sections):
        assert text.count("&") == text.count(";")
