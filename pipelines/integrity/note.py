"""Checkpoints as C2SP signed notes: signing them, and reading those signed by a trusted key.

https://c2sp.org/signed-note, https://c2sp.org/tlog-checkpoint
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pipelines.errors import ConfigurationError

_ED25519 = b"\x01"
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The state of a log: its number of leaves, and their Merkle root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A signing key with its name."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)
    public: bytes

    @property
    def vkey(self) -> str:
        """The public key in the format to publish: name+id+base64."""
        encoded = b64encode(_ED25519 + self.public).decode()
        return f"{self.name}+{key_id(self.name, self.public).hex()}+{encoded}"

    @property
    def secret(self) -> str:
        """The private key in the format of Go's sumdb/note."""
        encoded = b64encode(_ED25519 + self.private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.name}+{key_id(self.name, self.public).hex()}+{encoded}"


def new_key(name: str) -> Key:
    return _key(name, Ed25519PrivateKey.generate())


@lru_cache(maxsize=8)
def read_key(text: str) -> Key:
    """Parse a private key in the format of `Key.secret`; raises ConfigurationError."""
    found = re.fullmatch(r"PRIVATE\+KEY\+([^\s+]+)\+[0-9a-f]{8}\+(\S+)", text.strip())
    seed = _decode(found[2]) if found else b""
    if not found or len(seed) != 33 or seed[:1] != _ED25519:
        raise ConfigurationError(
            "integrity.keys: not an Ed25519 signing key: use a PRIVATE+KEY+... line, "
            "as printed by `auditlake keys new`"
        )
    return _key(found[1], Ed25519PrivateKey.from_private_bytes(seed[1:]))


def _key(name: str, private: Ed25519PrivateKey) -> Key:
    return Key(name=name, private=private, public=private.public_key().public_bytes_raw())


def signed(text: str, keys: Sequence[Key]) -> bytes:
    """Return `text` as a note with one signature per key."""
    lines = (
        f"\u2014 {key.name} "
        + b64encode(key_id(key.name, key.public) + key.private.sign(text.encode())).decode()
        for key in keys
    )
    return "\n".join((text, *lines, "")).encode()


def opened(note: bytes, vkeys: Iterable[str]) -> Head | None:
    """Return the checkpoint in a note, or None if it is not one signed by a trusted key."""
    try:
        text, _, signatures = note.decode().rpartition("\n\n")
        origin, size, root, *_ = text.split("\n")
        head = Head(origin=origin, size=int(size), root=b64decode(root, validate=True))
    except ValueError:
        return None
    known = dict(read_vkey(vkey) for vkey in vkeys)
    good = any(_is_valid(line, text + "\n", known) for line in signatures.splitlines())
    # Reject text that is not canonical, such as a size of 007.
    return head if good and text + "\n" == head.text else None


def _is_valid(line: str, text: str, known: dict[tuple[str, bytes], bytes]) -> bool:
    try:
        name, encoded = line.removeprefix("\u2014 ").split(" ")
        blob = b64decode(encoded, validate=True)
        public = known[name, blob[:4]]
        Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], text.encode())
    except (ValueError, KeyError, InvalidSignature):
        return False
    return True


def read_vkey(vkey: str, kind: bytes = _ED25519) -> tuple[tuple[str, bytes], bytes]:
    """Return ((name, id), public key) of a verifier key of a type; raises ConfigurationError."""
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+(\S+)", vkey)
    key = _decode(found[3]) if found else b""
    number = key_id(found[1], key[1:], kind) if found else b""
    if not found or len(key) != 33 or key[:1] != kind or number.hex() != found[2]:
        printed = "auditlake keys" if kind == _ED25519 else "auditlake witness"
        raise ConfigurationError(
            f"{vkey!r} is not a verifier key: use one as printed by `{printed}`"
        )
    return (found[1], number), key[1:]


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def key_id(name: str, public: bytes, kind: bytes = _ED25519) -> bytes:
    return sha256(name.encode() + b"\n" + kind + public).digest()[:4]
