"""Services that Apprise knows, of which there are more than a hundred.

None has a key for deduplication, so a message that may have arrived is sent once more at most.
"""

from __future__ import annotations

import logging

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.outbox import NO_ANSWER
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings.alerts import AppriseReceiver
from pipelines.settings.network import Way

_MOST = 2000
# What the various services take for markup or a mention. A zero-width space ends a mention.
_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "`": "'", "*": "\u2217", "@": "@\u200b"})


def send(receiver: AppriseReceiver, envelope: Envelope, _way: Way) -> Outcome:
    try:
        import apprise  # noqa: PLC0415 an optional dependency
    except ImportError:
        return Outcome(result="later", receipt="not installed: pip install 'auditlake[apprise]'")
    logging.getLogger("apprise").disabled = True  # it logs addresses, which contain credentials
    services = apprise.Apprise()
    for url in receiver.urls:
        if not services.add(url.get_secret_value()):
            return Outcome(result="later", receipt="Apprise does not know one of the urls")
    title, text = texts(envelope)
    try:
        sent = services.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:
        return Outcome(result="unknown", receipt=f"{NO_ANSWER}: {type(error).__name__}")
    if sent:
        return Outcome(result="sent", receipt="accepted")
    # It does not tell apart what was refused from what had no answer.
    return Outcome(result="unknown", receipt=f"{NO_ANSWER}: Apprise could not send it")


def texts(envelope: Envelope) -> tuple[str, str]:
    """Return title and text, without the markup of any service."""
    lines = "\n".join(wording.lines(envelope.alert, envelope.dashboard))
    return _harmless(wording.headline(envelope.alert)), wording.cut(_harmless(lines), _MOST)


def _harmless(text: str) -> str:
    return text.translate(_HARMLESS).replace("](", "] (")
