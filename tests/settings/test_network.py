"""A proxy that inspects TLS, over sockets: its certificate is trusted only if it is configured."""

import socket
import ssl
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines import registry
from pipelines.cli import doctor
from pipelines.errors import ConfigurationError, Unavailable
from pipelines.extraction import client
from pipelines.extraction.client import RetryPolicy
from pipelines.integrity import anchors, cosignatures, reports, witnesses
from pipelines.lake import tables
from pipelines.settings import Settings, network
from tests.integrity.worlds import Signed

HOST = "acme.okta.com"
OKTA = {"kind": "okta", "base_url": f"https://{HOST}", "api_token": "x" * 20}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a PEM file with the key and the certificate of the host, which signs itself."""
    key, folder = ec.generate_private_key(ec.SECP256R1()), tmp_path_factory.mktemp("ca")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(1)
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = made.public_bytes(serialization.Encoding.PEM)
    (folder / "both.pem").write_bytes(private + public)
    (folder / "public.pem").write_bytes(public)
    return folder


def head(connection):
    """Return the head of one request."""
    read = b""
    while b"\r\n\r\n" not in read:
        piece = connection.recv(4096)
        if not piece:
            break
        read += piece
    return read.decode()


@contextmanager
def inspecting_proxy(certificate):
    """Yield the address of a proxy that answers as the host, and the heads that reach it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "both.pem")
    heads = []

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            with connection:
                heads.append(head(connection))
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                try:
                    with context.wrap_socket(connection, server_side=True) as inside:
                        heads.append(head(inside))
                        inside.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                            b"Connection: close\r\nContent-Length: 2\r\n\r\n[]"
                        )
                except OSError:  # the client does not trust it
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=serve, args=[listener], daemon=True)
        thread.start()
        yield f"http://user:pass-w0rd@127.0.0.1:{listener.getsockname()[1]}", heads
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)


def configured(shared, bundle=None, **okta):
    way = {"proxy": shared, **({"ca_bundle": str(bundle)} if bundle else {})}
    (source,) = registry.sources(Settings(network=way, integrations={"okta": {**OKTA, **okta}}))
    return source


def fetch(source):
    with client.connect(source, retry_policy=RetryPolicy(attempts=1)) as opened:
        return opened.get("/api/v1/logs").json()


def test_clients_share_the_public_certificates_but_other_protocols_do_not(certificate):
    way = Settings().network
    one, other = (network.options(way, f"https://{HOST}")["verify"] for _ in range(2))
    assert one is other
    # A server of mail may refuse a client that names HTTP as its protocol.
    assert network.certificates(way) is not one
    bundle = Settings(network={"ca_bundle": str(certificate / "public.pem")}).network
    assert network.options(bundle, f"https://{HOST}")["verify"] is not one


def test_requests_pass_a_proxy_whose_certificate_is_in_the_bundle(certificate):
    with inspecting_proxy(certificate) as (proxy, heads):
        assert fetch(configured(proxy, certificate / "public.pem")) == []
    tunnel, request = heads
    assert tunnel.startswith(f"CONNECT {HOST}:443 ")
    assert "proxy-authorization: basic" in tunnel.lower()
    assert request.startswith("GET /api/v1/logs ")
    assert "proxy-authorization" not in request.lower()


def test_without_the_bundle_the_proxy_is_not_trusted(certificate):
    with inspecting_proxy(certificate) as (proxy, heads):
        with pytest.raises(Unavailable, match=r"not trusted.*network\.ca_bundle") as refused:
            fetch(configured(proxy))
        assert len(heads) < 2 or not heads[1]
    assert "pass-w0rd" not in str(refused.value)


def test_an_integration_may_have_its_own_proxy_and_bundle(certificate):
    with inspecting_proxy(certificate) as (proxy, heads):
        own = {"proxy": proxy, "ca_bundle": str(certificate / "public.pem")}
        assert fetch(configured("http://127.0.0.1:1", **own)) == []
    assert len(heads) == 2
    assert configured("http://127.0.0.1:1", proxy="").settings.proxy is None


def test_a_service_on_this_machine_is_reached_without_the_proxy(still_world):
    given = still_world.source("okta", proxy="http://127.0.0.1:1")
    with client.connect(given, retry_policy=RetryPolicy(attempts=1)) as opened:
        assert opened.get("/api/v1/logs").status_code == 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "no certificate"), (b"not PEM", "no certificate")],
)
def test_doctor_names_a_bundle_that_cannot_be_used(lake, tmp_path, content, reason):
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    source = configured("http://127.0.0.1:1", bundle)
    with pytest.raises(ConfigurationError):
        network.options(source.settings, source.settings.base_url)
    found = {check.subject: check.fault for check in doctor.examine(lake, [source], NOW)}
    assert f"ca_bundle: {bundle}: {reason}" in found["okta"].replace("it contains ", "")


def test_witnesses_and_anchors_are_reached_through_the_proxy_too(certificate, tmp_path):
    witness = {"url": f"https://{HOST}", "key": cosignatures.new_key("w/1").vkey}
    with inspecting_proxy(certificate) as (proxy, heads):
        chosen = Settings(
            network={"proxy": proxy, "ca_bundle": str(certificate / "public.pem")},
            lake={"root": str(tmp_path / "lake")},
            integrity={
                "folder": str(tmp_path / "state"),
                "witnesses": [witness],
                "anchors": [{"url": f"https://{HOST}/anchor"}],
            },
        )
        world = Signed(tmp_path, {"witnesses": chosen.integrity.witnesses})
        world.settings |= {"anchors": chosen.integrity.anchors, "network": chosen.network}
        world.land(1)
        witnesses.submit(tables.configured(chosen), chosen.integrity, ["okta/system_log"])
        anchors.deliver(world.place.memory, chosen.integrity)
        place = reports.place(world.lake, chosen.integrity)
        origin = (world.log / "checkpoint").read_text().split("\n")[0]
        report = world.verify()
        assert place.network == chosen.network
        assert len(report.notes) == 2
    inside = [each.split("\r\n")[0] for each in heads[1::2]]
    assert f"PUT /anchor/{origin}/{1:020} HTTP/1.1" in inside
    assert f"GET /anchor/{origin}/latest HTTP/1.1" in inside
    assert "POST /add-checkpoint HTTP/1.1" in inside
    assert any(line.endswith("/checkpoint HTTP/1.1") for line in inside if line.startswith("GET"))
    assert "pass-w0rd" not in str([report, chosen, place])
