"""The answers of a witness: https://c2sp.org/tlog-witness.

A cosignature states that the log, up to this size, extends all that this witness has seen of it.
"""

from __future__ import annotations

import re
import threading
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pipelines.integrity import cosignatures, note
from pipelines.integrity.cosignatures import CosigningKey
from pipelines.integrity.verifier import proofs
from pipelines.integrity.witness.state import State, Tree, tree_in

MAX_BYTES = 128 * 1024
_MAX_PROOF = 63
_EMPTY = proofs.root_of(())
_OLD = re.compile("old (0|[1-9][0-9]{0,18})")
_HASH = re.compile("[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_LINE = re.compile("\u2014 ([^\\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
# An auditlake log: <name>/<integration>/<stream>/<id>, where a new log of the table has a new id.
_AUDITLAKE = re.compile("(.+)/(?:mapped-)?[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response: its status, body and media type."""

    status: int
    body: str
    media: str = "text/plain"


class Refusal(Exception):
    """The request is answered with `status` and the reason, and nothing is cosigned."""

    def __init__(self, status: int, reason: str, media: str = "text/plain") -> None:
        super().__init__(reason)
        self.status, self.media = status, media


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    old: int
    proof: Sequence[bytes]
    text: str
    signatures: Sequence[str]
    tree: Tree


class Witness:
    """Cosigns the checkpoints of logs whose keys, `logs`, it knows.

    `clock` returns the time in seconds since 1970. Of the logs of one auditlake table only the
    first is known, and those in `accepted`: otherwise a second view would only need a new name.
    """

    def __init__(
        self,
        key: CosigningKey,
        logs: Sequence[str],
        state: State,
        clock: Callable[[], int],
        accepted: Sequence[str] = (),
    ) -> None:
        self._key = key
        self._logs = dict(note.read_vkey(vkey) for vkey in logs)
        self._state = state
        self._clock = clock
        self._accepted = frozenset(accepted)
        self._lock = threading.Lock()

    def add_checkpoint(self, body: bytes) -> Reply:
        """Return the response to a request to cosign a checkpoint, which is stored first."""
        try:
            request = _parsed(body)
            self._check_signed(request)
            # Two requests at once must not both be compared with the same old state.
            with self._lock:
                self._check_known(request.tree.origin)
                _check_growth(self._state.newest(request.tree.origin), request)
                line = cosignatures.cosign(request.text, self._key, self._clock())
                signed = "\n".join((request.text, *request.signatures, line, ""))
                self._state.keep(request.tree, signed.encode())
        except Refusal as refusal:
            return Reply(status=refusal.status, body=f"{refusal}\n", media=refusal.media)
        return Reply(status=200, body=f"{line}\n")

    def checkpoint(self, name: str) -> Reply:
        """Return the newest cosigned checkpoint of a log, given by the SHA-256 of its origin."""
        found = self._state.note(name)
        if found is None:
            return Reply(status=404, body="no checkpoint of this log was cosigned\n")
        return Reply(status=200, body=found.decode())

    def _check_signed(self, request: _Request) -> None:
        """Raise Refusal unless a known key has signed the checkpoint, and it is no smaller one."""
        origin = request.tree.origin
        keys = {
            (name, number): public
            for (name, number), public in self._logs.items()
            if origin == name or origin.startswith(f"{name}/")
        }
        if not keys:
            raise Refusal(404, "no log with this origin is known")
        refusal, valid = Refusal(403, "not signed by a known key of this log"), 0
        for name, blob in map(_signature, request.signatures):
            public = keys.get((name, blob[:4]))
            if public is None:
                continue  # of another key
            try:
                verifier = Ed25519PublicKey.from_public_bytes(public)
                verifier.verify(blob[4:], request.text.encode())
            except InvalidSignature:
                raise refusal from None
            valid += 1
        if not valid:
            raise refusal
        if request.old > request.tree.size:
            raise Refusal(400, "the old size is larger than the checkpoint's")

    def _check_known(self, origin: str) -> None:
        """Raise Refusal if another log of the same auditlake table is known."""
        if self._state.newest(origin) or origin in self._accepted:
            return
        table = _AUDITLAKE.fullmatch(origin)
        for other in self._state.origins():
            found = _AUDITLAKE.fullmatch(other)
            if table and found and found[1] == table[1]:
                raise Refusal(404, f"another log of this table is known: {other}")


def _parsed(body: bytes) -> _Request:
    """Parse the body of a request. Raises Refusal."""
    malformed = Refusal(400, "not a request to add a checkpoint")
    try:
        head, blank, signed = body.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise malformed from None
    first, *lines = head.split("\n")
    old = _OLD.fullmatch(first)
    # The text of a note may contain empty lines; the last one separates the signatures.
    text, gap, below = signed.rpartition("\n\n")
    tree = tree_in(f"{text}\n")
    signatures = below.removesuffix("\n").split("\n")
    if (
        not (old and blank and gap and tree and below.endswith("\n"))
        or not all(map(_HASH.fullmatch, lines))
        or not all(map(_LINE.fullmatch, signatures))
        or len(lines) > _MAX_PROOF
        or _CONTROL.search(signed)
    ):
        raise malformed
    return _Request(
        old=int(old[1]),
        proof=[b64decode(line) for line in lines],
        text=f"{text}\n",
        signatures=signatures,
        tree=tree,
    )


def _check_growth(seen: Tree | None, request: _Request) -> None:
    """Raise Refusal unless the checkpoint extends the newest one that was cosigned."""
    tree, size = request.tree, seen.size if seen else 0
    if request.old != size:
        raise Refusal(409, str(size), "text/x.tlog.size")
    inconsistent = Refusal(422, "the checkpoint does not extend the one that was cosigned")
    if tree.size == 0 and tree.root != _EMPTY:
        raise inconsistent
    old, new = (
        proofs.Checkpoint(origin=tree.origin, size=many, root=root, signer="")
        for many, root in ((size, seen.root if seen else _EMPTY), (tree.size, tree.root))
    )
    try:
        proofs.check_consistency(old, new, request.proof)
    except proofs.Invalid:
        raise inconsistent from None


def _signature(line: str) -> tuple[str, bytes]:
    """Return the name of the key in a signature line, and its id with the signature."""
    name, encoded = line.removeprefix("\u2014 ").split(" ")
    try:
        return name, b64decode(encoded, validate=True)
    except ValueError:
        return name, b""
