"""Cosignatures: statements of a witness that a checkpoint extends all it has seen of the log.

Only of the Ed25519 type. https://c2sp.org/tlog-cosignature
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.integrity import note

_KIND = b"\x04"
_PRIVATE = "PRIVATE+KEY+"
_SECRET = re.compile(r"PRIVATE\+KEY\+([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})")
_LINE = re.compile("\u2014 ([^ +]+) ([A-Za-z0-9+/]+=*)")
_BYTES = 4 + 8 + 64
_END = 253_402_300_800  # the year 10000: the specification allows to reject the future


class BadCosignature(AuditlakeError):
    """A cosignature names a known witness, but its key did not make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosigningKey:
    """The key of a witness, with the witness's name."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    @property
    def number(self) -> bytes:
        return note.key_id(self.name, self.public, _KIND)

    @property
    def vkey(self) -> str:
        """The public key in the format to publish: name+id+base64."""
        return f"{self.name}+{self.number.hex()}+{b64encode(_KIND + self.public).decode()}"

    @property
    def secret(self) -> str:
        """The private key in the format of Go's sumdb/note."""
        encoded = b64encode(_KIND + self.private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.name}+{self.number.hex()}+{encoded}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A valid cosignature."""

    line: str
    """The line of the signed note, without a newline."""
    at: int
    """When it was made, by the clock of the witness, in seconds since 1970."""


def new_key(name: str) -> CosigningKey:
    """Return a new key. Raises ConfigurationError for a name that no key may have."""
    if not re.fullmatch(r"[^\s+]+", name):
        raise ConfigurationError(f"{name!r} is no name of a witness: use no spaces and no +")
    return CosigningKey(name=name, private=Ed25519PrivateKey.generate())


def read_key(text: str) -> CosigningKey:
    """Parse a private key in the format of `CosigningKey.secret`; raises ConfigurationError."""
    found = _SECRET.fullmatch(text.strip())
    seed = b64decode(found[3]) if found else b""
    if found and len(seed) == 33 and seed[:1] == _KIND:
        private = Ed25519PrivateKey.from_private_bytes(seed[1:])
        key = CosigningKey(name=found[1], private=private)
        if key.number.hex() == found[2]:
            return key
    raise ConfigurationError("not the key of a witness: use one that `auditlake witness` made")


def cosign(text: str, key: CosigningKey, at: int) -> str:
    """Return the signature line of a cosignature, made at `at`, of the text of a checkpoint."""
    signature = key.private.sign(_message(text, at))
    blob = key.number + at.to_bytes(8) + signature
    return f"\u2014 {key.name} {b64encode(blob).decode()}"


def find(lines: str, text: str, vkey: str) -> Cosignature | None:
    """Return the newest cosignature of a witness among signature lines; None if there is none.

    Raises BadCosignature if one names the witness but is not valid for this text, and
    ConfigurationError if `vkey` is not the public key of a witness.
    """
    (name, number), public = note.read_vkey(vkey, _KIND)
    found = []
    for line in lines.split("\n"):
        parts = _LINE.fullmatch(line)
        blob = _decoded(parts[2]) if parts and parts[1] == name else b""
        if blob[:4] != number:
            continue  # of another key
        at = int.from_bytes(blob[4:12])
        if not _is_valid(public, blob, text):
            raise BadCosignature(f"the cosignature of {name} is not valid")
        found.append(Cosignature(line=line, at=at))
    return max(found, key=lambda each: each.at, default=None)


def _is_valid(public: bytes, blob: bytes, text: str) -> bool:
    at = int.from_bytes(blob[4:12])
    if len(blob) != _BYTES or not 0 < at < _END:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(blob[12:], _message(text, at))
    except InvalidSignature:
        return False
    return True


def _message(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""
