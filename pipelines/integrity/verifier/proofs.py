"""Trees, entries, signed notes and checkpoints, as an auditor checks them.

It shares no code with the program that signs, so neither can hide an error of the other, and needs
only Python 3.11. It implements RFC 6962 (trees), RFC 8032 (Ed25519), https://c2sp.org/signed-note
and /tlog-checkpoint.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, reduce
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTE_SIGNATURES = 16
_MOST_LEAVES = 2**63 - 1
_WITNESS = b"\4"
_END = 253_402_300_800  # the year 10000, in seconds since 1970
# 32 bytes in base64: the last letter has two bits, which have one spelling.
_HASH = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
# One spelling of each moment: that of the proofs.
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}Z"


class Invalid(Exception):
    """The proof, signature or pack is not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The signed state of a log: its size and the root at that size."""

    origin: str
    size: int
    root: bytes
    signer: str


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle root over leaf or node hashes."""
    level = list(hashes) or [hashlib.sha256(b"").digest()]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs]
        level = above + level[len(above) * 2 :]  # an odd last hash moves up unchanged
    return level[0]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root computed from a leaf and its audit path; RFC 9162, section 2.1.3.2."""
    if not 0 <= index < size:
        raise Invalid(f"index {index} is outside a log of size {size}")
    return _climb(index, size - 1, leaf, path)[1]


def check_consistency(old: Checkpoint, new: Checkpoint, path: Sequence[bytes]) -> None:
    """Raise Invalid unless the log of `old` is a prefix of that of `new`.

    RFC 9162, section 2.1.4.2.
    """
    if old.origin != new.origin or old.size > new.size:
        raise Invalid("the checkpoints belong to different logs or are in the wrong order")
    if old.size in (0, new.size):
        expected = root_of(()) if old.size == 0 else new.root
        if old.root != expected or path:
            raise Invalid(f"two different roots were signed for size {old.size:,}")
        return
    was, now = _both_roots(old, new, list(path))
    if (was, now) != (old.root, new.root):
        raise Invalid(f"the log at size {new.size:,} does not extend the log at size {old.size:,}")


def _both_roots(old: Checkpoint, new: Checkpoint, path: list[bytes]) -> tuple[bytes, bytes]:
    here, last = old.size - 1, new.size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    if here == 0:  # the old size is a power of two: the proof omits its root
        path.insert(0, old.root)
    if not path:
        raise Invalid("the proof is too short")
    return _climb(here, last, path[0], path[1:])


def _climb(here: int, last: int, start: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the trees that end at node `here`, and at node `last` of its level."""
    was = now = start
    for sibling in path:
        if last == 0:
            raise Invalid("the proof is too long")
        if here & 1 or here == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise Invalid("the proof is too short")
    return was, now


def extended(size: int, peaks: Sequence[bytes], leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree of `size` leaves, given by its perfect subtrees, and `leaves`."""
    heights = [bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]
    stack = list(zip(heights, peaks, strict=True))
    if any(len(each) != 32 for each in (*peaks, *leaves)):
        raise Invalid("a hash has the wrong length")
    for leaf in leaves:
        stack.append((0, leaf))
        while len(stack) > 1 and stack[-2][0] == stack[-1][0]:
            (height, left), (_, right) = stack[-2:]
            stack[-2:] = [(height + 1, node_hash(left, right))]
    hashes = [each for _, each in stack] or [root_of(())]
    return reduce(lambda right, left: node_hash(left, right), reversed(hashes))


def hash_in(text: str) -> bytes:
    if not re.fullmatch(_HASH, text):
        raise Invalid("not the hash of a node in base64")
    return base64.b64decode(text)


def entry(record: Mapping[str, str]) -> bytes:
    """Return the log entry of a record with event_id, time, ingested_at, via and raw."""
    raw = hashlib.sha256(_utf8(record["raw"])).hexdigest()
    time, arrival = (microseconds(record[name]) for name in ("time", "ingested_at"))
    return entry_of(raw, time, arrival, record["via"], record["event_id"])


def entry_of(digest: str, time: int, arrival: int, via: str, identity: str) -> bytes:
    if "\n" in digest + via:
        raise Invalid("a part of an entry contains a newline")
    return bounded(f"auditlake/1\n{digest}\n{time}\n{arrival}\n{via}\n{identity}")


def bounded(text: str) -> bytes:
    """Encode an entry; one longer than 65,535 bytes is replaced by its hash."""
    data = _utf8(text)
    if len(data) <= 0xFFFF:
        return data
    return b"auditlake/1 long\n" + hashlib.sha256(data).hexdigest().encode()


def microseconds(text: str) -> int:
    """Return a time such as 2026-03-01T12:00:00.000000Z as microseconds since 1970.

    Raises Invalid for any other form.
    """
    try:
        if re.fullmatch(_TIME, text):
            return since_epoch(datetime.fromisoformat(text))
    except ValueError:  # such as the 30th of February
        pass
    raise Invalid(f"{text[:40]}: not a time such as 2026-03-01T12:00:00.000000Z")


def since_epoch(time: datetime) -> int:
    """Return a time with a time zone as microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def parsed(text: str | bytes) -> Any:
    """Parse JSON that every reader takes alike. Raises Invalid.

    It is UTF-8, without NaN and Infinity, and no object has a key twice: readers differ in which
    value they take.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise Invalid("an object contains a key twice")
        return dict(pairs)

    def refuse(name: str) -> Any:
        raise Invalid(f"{name} is not JSON")

    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except RecursionError:
        raise Invalid("nested too deeply") from None
    except ValueError as error:
        raise Invalid(f"not JSON: {error}") from None


def read_checkpoint(note: str, keys: Iterable[str]) -> Checkpoint:
    """Return the checkpoint in a note. Raises Invalid unless one of the keys has signed it."""
    return _checkpoint(note, tuple(keys))


# Cached, since many proofs in a pack share a checkpoint and Ed25519 in pure Python is slow.
@lru_cache(maxsize=64)
def _checkpoint(note: str, keys: tuple[str, ...]) -> Checkpoint:
    return checkpoint_in(*read_note(note, keys))


def checkpoint_in(text: str, signer: str = "") -> Checkpoint:
    """Parse the text of a checkpoint, without checking a signature. Raises Invalid."""
    found = re.fullmatch(f"([^\n]+)\n(0|[1-9][0-9]{{,18}})\n({_HASH})\n", text)
    if not found or int(found[2]) > _MOST_LEAVES:
        raise Invalid("not a checkpoint")
    root = base64.b64decode(found[3])
    return Checkpoint(origin=found[1], size=int(found[2]), root=root, signer=signer)


def read_note(note: str, keys: Iterable[str]) -> tuple[str, str]:
    """Return (text, signer) of a note. Raises Invalid unless one of the keys has signed it."""
    # A note's text may contain blank lines; the last one separates the signatures.
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise Invalid("not a signed note")
    text, known, signer = text + "\n", [_key(key) for key in keys], ""
    message = _utf8(text)
    for line in signatures.split("\n")[:-1][:_NOTE_SIGNATURES]:
        found = re.fullmatch(r"\u2014 ([^\s+]+) ([A-Za-z0-9+/]+=*)", line)
        if not found:
            raise Invalid("malformed signature line")
        blob = _decoded(found[2])
        # Signatures of unknown keys are skipped; one that claims a known key must be valid.
        for name, number, public in known:
            if (name, number) == (found[1], blob[:4]):
                if not ed25519(public, message, blob[4:]):
                    raise Invalid(f"the signature of {name} is invalid")
                signer = f"{name}+{number.hex()}"
    if not signer:
        raise Invalid("not signed by any of the given keys")
    return text, signer


def cosigned_at(note: str, vkey: str) -> int:
    """Return when a witness cosigned the checkpoint in a note, in seconds since 1970.

    0 if it did not. Raises Invalid if a cosignature names the witness and is not valid.
    https://c2sp.org/tlog-cosignature
    """
    name, number, public = _key(vkey, _WITNESS)
    text, _, lines = note.rpartition("\n\n")
    newest = 0
    for line in lines.split("\n"):
        found = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/]+=*)", line)
        if not found or found[1] != name:
            continue
        try:
            blob = _decoded(found[2])
        except Invalid:
            continue
        if blob[:4] != number:
            continue
        at = int.from_bytes(blob[4:12], "big")
        message = _utf8(f"cosignature/v1\ntime {at}\n{text}\n")
        if not 0 < at < _END or not ed25519(public, message, blob[12:]):
            raise Invalid(f"the cosignature of {name} is invalid")
        newest = max(newest, at)
    return newest


def witness_name(vkey: str) -> str:
    """Return the name of a witness. Raises Invalid if this is not the key of one."""
    return _key(vkey, _WITNESS)[0]


def text_of(note: bytes) -> str:
    """Decode a note. Raises Invalid unless it is UTF-8."""
    try:
        return note.decode()
    except UnicodeDecodeError:
        raise Invalid("not UTF-8") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid("a text contains half a character") from None


def _decoded(text: str) -> bytes:
    """Decode base64, of which every value has one spelling. Raises Invalid."""
    try:
        found = base64.b64decode(text, validate=True)
    except ValueError:
        raise Invalid("not base64") from None
    if base64.b64encode(found).decode() != text:
        raise Invalid("not base64 as it is written")
    return found


def _key(vkey: str, kind: bytes = b"\1") -> tuple[str, bytes, bytes]:
    """Return (name, id, public key) of a verifier key: name+id+base64(kind || key)."""
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", vkey.strip())
    public = _decoded(found[3]) if found else b""
    expected = hashlib.sha256(_utf8(found[1]) + b"\n" + public).hexdigest()[:8] if found else ""
    if not found or public[:1] != kind or expected != found[2]:
        raise Invalid(f"{vkey!r} is not a verifier key: expected name+1a2b3c4d+...")
    return found[1], bytes.fromhex(found[2]), public[1:]


_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Return True if the signature is valid; RFC 8032, section 5.1.7.

    Slow, and not constant-time, which is harmless as no secret is involved.
    """
    if len(signature) != 64 or len(public) != 32:
        return False
    key, commitment = _point(public), _point(signature[:32])
    scalar = int.from_bytes(signature[32:], "little")
    # Without the bound on the scalar, every signature would have a second valid form.
    if key is None or commitment is None or scalar >= _L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    left = _times(scalar, _BASE)
    right = _plus(commitment, _times(int.from_bytes(digest, "little") % _L, key))
    same_x = (left[0] * right[2] - right[0] * left[2]) % _P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % _P == 0


def _point(data: bytes) -> _Point | None:
    """Decode a point; return None if the encoding is invalid or not canonical."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    x = _P - x if x & 1 != sign else x
    return x, y, 1, x * y % _P


def _plus(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c, d = 2 * one[3] * other[3] * _D % _P, 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total: _Point = (0, 1, 1, 0)
    while scalar:
        total = _plus(total, point) if scalar & 1 else total
        point, scalar = _plus(point, point), scalar >> 1
    return total


_BASE = _point((4 * pow(5, -1, _P) % _P).to_bytes(32, "little")) or (0, 1, 1, 0)
