"""The auditor's program against other implementations, published examples and forgeries."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity.verifier import audit


@given(message=st.binary(max_size=200), seed=st.binary(min_size=32, max_size=32), bit=st.data())
def test_the_auditors_ed25519_agrees_with_cryptography(message, seed, bit):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert audit.ed25519(public, message, signature)
    flipped = bytearray(signature)
    at = bit.draw(st.integers(0, 511))
    flipped[at // 8] ^= 1 << at % 8
    assert not audit.ed25519(public, message, bytes(flipped))
    assert not audit.ed25519(public, message + b"x", signature)


def test_a_signature_is_accepted_in_one_form_only():
    """S and S + L both satisfy the equation; RFC 8032 accepts only the smaller."""
    private = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
    signature, order = private.sign(b"m"), 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    other = signature[:32] + scalar.to_bytes(32, "little")
    assert not audit.ed25519(private.public_key().public_bytes_raw(), b"m", other)


def test_a_note_signed_by_go_is_accepted():
    """The example in the documentation of golang.org/x/mod/sumdb/note."""
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqf"
        "qdngotpRZb6KE6RyyBwJnAM=\n"
    )
    key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    text, signer = audit.read_note(note, [key])
    assert (text.count("\n"), signer) == (2, "PeterNeumann+c74f20a3")
