"""E-mail over SMTP with TLS. A message that is sent again has the same Message-ID."""

from __future__ import annotations

import html
import smtplib
import ssl
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.outbox import NO_ANSWER
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.settings import network
from pipelines.settings.alerts import EmailReceiver
from pipelines.settings.network import Way

_TIMEOUT = 15.0


def send(receiver: EmailReceiver, envelope: Envelope, way: Way) -> Outcome:
    try:
        server = _connected(receiver, network.certificates(way))
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(result="later", receipt=_named(error))
    try:
        refused = server.send_message(message(receiver, envelope))
        with suppress(smtplib.SMTPException, OSError):
            server.quit()
    except smtplib.SMTPRecipientsRefused as error:
        return _refused(max(code for code, _ in error.recipients.values()))
    except smtplib.SMTPResponseException as error:
        return _refused(error.smtp_code)
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(result="unknown", receipt=f"{NO_ANSWER}: {_named(error)}")
    finally:
        server.close()
    return _accepted(refused, len(receiver.to))


def _connected(receiver: EmailReceiver, context: ssl.SSLContext) -> smtplib.SMTP:
    server: smtplib.SMTP
    if receiver.tls == "implicit":
        server = smtplib.SMTP_SSL(receiver.host, receiver.port, timeout=_TIMEOUT, context=context)
    else:
        server = smtplib.SMTP(receiver.host, receiver.port, timeout=_TIMEOUT)
    try:
        if receiver.tls == "starttls":
            server.starttls(context=context)
        if receiver.user is not None and receiver.password is not None:
            server.login(receiver.user, receiver.password.get_secret_value())
    except BaseException:
        server.close()
        raise
    return server


def message(receiver: EmailReceiver, envelope: Envelope) -> EmailMessage:
    """Return the message: plain text, and the same escaped as HTML."""
    lines = [*wording.lines(envelope.alert, envelope.dashboard)]
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"] = receiver.sender, ", ".join(receiver.to)
    made["Subject"] = wording.headline(envelope.alert)
    made["Date"] = _date(envelope.sent_at)
    domain = receiver.sender.rpartition("@")[2]
    made["Message-ID"] = f"<{envelope.id}@{domain}>"
    if envelope.revision:
        made["In-Reply-To"] = made["References"] = f"<{envelope.delivery}_0@{domain}>"
    # So that holiday notices and other programs do not answer.
    made["Auto-Submitted"] = "auto-generated"
    made.set_content("\n".join(lines) + "\n")
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    made.add_alternative(f"<html><body>{paragraphs}</body></html>\n", subtype="html")
    return made


def _date(time: datetime) -> str:
    return format_datetime(time)


def _accepted(refused: dict[str, tuple[int, bytes]], recipients: int) -> Outcome:
    """Return the outcome of a message that the server took for at least one recipient."""
    if any(code < 500 for code, _ in refused.values()):
        # Whoever has it already gets it with the same Message-ID.
        receipt = f"refused for now for {len(refused)} of {recipients} recipients"
        return Outcome(result="later", receipt=receipt)
    left = f", refused for {len(refused)} of {recipients} recipients" if refused else ""
    return Outcome(result="sent", receipt=f"250{left}")


def _refused(code: int) -> Outcome:
    return Outcome(result="never" if code >= 500 else "later", receipt=f"SMTP {code}")


def _named(error: Exception) -> str:
    # The server's text may quote the credential.
    code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
    return f"{type(error).__name__}{code}"
