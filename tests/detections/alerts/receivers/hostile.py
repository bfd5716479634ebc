"""An alert whose texts are all written by an attacker, and the ways it must not arrive."""

from pipelines.detections.alerts import message
from pipelines.detections.alerts.receivers.exchange import Envelope
from pipelines.settings import NetworkSettings
from tests.detections.alerts.world import NOW, finding, uid

WAY = NetworkSettings()
TEXT = (
    "<!channel> <@U123> <https://evil.example|click> <b>bold</b> *x* [a](http://evil.example) "
    "{color:red}x{color} @everyone &lt; \r\nBcc: spy@evil.example\u202egnp.exe\x1b[31m\x00"
)
ROW = finding(
    title=f"Rule {TEXT}",
    entity=TEXT,
    message=TEXT * 50,
    author=TEXT,
    url="javascript:alert(1)",
    source_ip=TEXT,
    tags=[TEXT],
    matched=[{"field": TEXT, "value": TEXT}],
)


def envelope(row=ROW, *, revision=0, resolved=False):
    alert = message.opened(row)
    if resolved:
        alert = message.withdrawn(alert, row["finding_uid"], 0)
    return Envelope(
        delivery=uid("delivery"),
        revision=revision,
        alert=alert,
        sent_at=NOW,
        dashboard="https://audit.example.com",
    )


def is_plain(text):
    """Return whether a text of one line or more has no character that deceives or controls."""
    lines = text.split("\n")
    return all(line.isprintable() and "\u202e" not in line for line in lines)
