"""Ends of credentials, as services report them and as certificates contain them."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from pipelines.sdk import endings

END = datetime(2027, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("at", ["2027-03-01T12:00:00Z", "2027-03-01T13:00:00+01:00"])
def test_a_reported_time_is_the_end(at):
    (found,) = endings.reported("the key", at, "create a new one")
    assert (found.what, found.at, found.advice) == ("the key", END, "create a new one")


def test_a_time_without_a_zone_is_in_utc():
    assert endings.reported("x", "2027-03-01T12:00:00", "y")[0].at == END


@pytest.mark.parametrize("at", [None, "", "never", 0, {}, True])
def test_a_value_that_is_no_time_is_no_end(at):
    assert endings.reported("the key", at, "create a new one") == []


def certificate(end=END):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "auditlake")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_certificate_contains_its_end():
    pem = f"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n{certificate()}"
    (found,) = endings.of_certificate(SecretStr(pem), "upload a new one")
    assert (found.what, found.at) == ("the certificate", END)


@pytest.mark.parametrize(
    "pem", ["", "unread", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]
)
def test_text_without_a_certificate_has_no_end(pem):
    assert endings.of_certificate(SecretStr(pem), "upload a new one") == []
