"""E-mail goes over TLS, cannot be given other headers, and has a fixed Message-ID."""

import ipaddress
import ssl
from contextlib import contextmanager
from datetime import timedelta

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines.clock import utc_now
from pipelines.detections.alerts.receivers import mail
from pipelines.settings import NetworkSettings
from pipelines.settings.alerts import EmailReceiver
from tests.detections.alerts.receivers.hostile import WAY, envelope, is_plain
from tests.detections.alerts.world import finding, uid


class Inbox:
    """A mail server that keeps messages, and may refuse recipients or content."""

    def __init__(self, recipients=None, content="250 OK"):
        self.messages, self.recipients, self.content = [], recipients or {}, content

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        if address in self.recipients:
            return self.recipients[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
        if self.content.startswith("250"):
            self.messages.append(envelope)
        return self.content


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The paths of a certificate for 127.0.0.1 and its key."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(utc_now() - timedelta(days=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


class AnyPort(Controller):
    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def serving(inbox, **options):
    server = AnyPort(inbox, hostname="127.0.0.1", port=0, **options)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


def receiver(port, **more):
    values = {"tls": "none", "sender": "audit@example.com", "to": ["ada@example.com"], **more}
    return EmailReceiver(kind="email", host="127.0.0.1", port=port, **values)


def test_a_message_arrives_over_tls_after_the_sign_in(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    given = []

    def check(_server, _session, _envelope, _mechanism, data):
        given.append((data.login, data.password))
        return AuthResult(success=True)

    inbox, way = Inbox(), NetworkSettings(ca_bundle=certificate[0])
    options = {"tls_context": context, "require_starttls": True, "authenticator": check}
    with serving(inbox, auth_required=True, **options) as port:
        to = receiver(port, tls="starttls", user="u", password="p4ss")
        assert mail.send(to, envelope(finding()), way).receipt == "250"
        # Without the bundle, the certificate is not trusted, and nothing is sent.
        refused = mail.send(to, envelope(finding()), WAY)
    assert (refused.result, "CertVerification" in refused.receipt) == ("later", True)
    assert given == [(b"u", b"p4ss")]
    assert len(inbox.messages) == 1


def test_a_message_that_is_sent_again_has_the_same_id_and_updates_refer_to_the_first():
    first = mail.message(receiver(25), envelope(finding()))
    again = mail.message(receiver(25), envelope(finding()))
    update = mail.message(receiver(25), envelope(finding(), revision=1))
    assert first["Message-ID"] == again["Message-ID"] == f"<{uid('delivery')}_0@example.com>"
    assert update["Message-ID"] != first["Message-ID"]
    assert update["References"] == first["Message-ID"]
    assert first["Auto-Submitted"] == "auto-generated"


def test_hostile_text_adds_no_header_and_no_markup():
    inbox = Inbox()
    with serving(inbox) as port:
        assert mail.send(receiver(port), envelope(), WAY).result == "sent"
    (got,) = inbox.messages
    assert got.rcpt_tos == ["ada@example.com"]
    made = mail.message(receiver(25), envelope())
    assert made["Bcc"] is None
    assert is_plain(made["Subject"])
    text, html = (part.get_content() for part in made.iter_parts())
    assert is_plain(text.replace("\r\n", "\n"))
    assert "<b>" not in html.replace("<body>", "")
    assert "&lt;!channel&gt;" in html
    assert "evil.example" in text
    assert "://evil" not in text + html
    assert "href" not in html


@pytest.mark.parametrize(
    ("inbox", "result", "receipt"),
    [
        (Inbox({"ada@example.com": "550 no"}), "never", "SMTP 550"),
        (Inbox({"ada@example.com": "450 later"}), "later", "SMTP 450"),
        (Inbox(content="552 too large"), "never", "SMTP 552"),
        (Inbox(content="451 busy"), "later", "SMTP 451"),
    ],
)
def test_a_refusal_is_final_or_not_by_its_code(inbox, result, receipt):
    with serving(inbox) as port:
        outcome = mail.send(receiver(port), envelope(), WAY)
    assert (outcome.result, outcome.receipt) == (result, receipt)


def test_a_recipient_that_is_refused_for_now_is_not_forgotten():
    both = {"to": ["ada@example.com", "bob@example.com"]}
    with serving(Inbox({"bob@example.com": "450 greylisted"})) as port:
        assert mail.send(receiver(port, **both), envelope(), WAY).result == "later"
    with serving(Inbox({"bob@example.com": "550 unknown"})) as port:
        outcome = mail.send(receiver(port, **both), envelope(), WAY)
    assert (outcome.result, "1 of 2" in outcome.receipt) == ("sent", True)


def test_a_server_that_is_away_is_no_doubt():
    outcome = mail.send(receiver(9), envelope(), WAY)
    assert (outcome.result, outcome.receipt) == ("later", "ConnectionRefusedError")
