"""Incoming webhooks of Slack: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.

Slack knows no key for deduplication. A message that may have arrived is therefore sent once more at
most; one that Slack refused has not arrived, and is retried like any other.
"""

from __future__ import annotations

from typing import Any

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings.alerts import SlackReceiver
from pipelines.settings.network import Way

_HEADER, _SECTION = 150, 2900
_CONTROL = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def send(receiver: SlackReceiver, envelope: Envelope, way: Way) -> Outcome:
    url = receiver.url.get_secret_value()
    return exchange.judged(exchange.send(way, "POST", url, body(envelope)), [url])


def body(envelope: Envelope) -> dict[str, Any]:
    """Return the message in blocks of plain text, which know neither mentions nor links."""
    headline = wording.headline(envelope.alert, _HEADER - 20)
    blocks = [_block("header", _fitting([headline], _HEADER))]
    if text := _fitting(wording.lines(envelope.alert, envelope.dashboard), _SECTION):
        blocks.append(_block("section", text))
    return {
        "text": escaped(headline),  # of notifications; Slack reads this one as mrkdwn
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": blocks,
    }


def escaped(text: str) -> str:
    """Return a text without Slack's control characters, which begin links and mentions."""
    return text.translate(_CONTROL)


def _block(kind: str, text: str) -> dict[str, Any]:
    return {"type": kind, "text": {"type": "plain_text", "text": text, "emoji": False}}


def _fitting(lines: Any, most: int) -> str:
    """Return the escaped lines, as many as fit, since a cut could go through an entity."""
    kept, length = [], 0
    for line in map(escaped, lines):
        length += len(line) + 1
        if length > most:
            break
        kept.append(line)
    return "\n".join(kept)
