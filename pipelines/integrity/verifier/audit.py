"""Checks proofs and evidence packs; needs only Python 3.11: `python3 audit.py FILE --key KEY`.

This file is self-contained: it shares no code with the program that signs, so neither can hide an
error of the other. Every evidence pack contains a copy of it. It implements RFC 6962 (trees),
RFC 8032 (Ed25519), https://c2sp.org/signed-note, /tlog-checkpoint and /tlog-proof.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

CERTIFICATE = "auditlake coverage certificate 1"
PROOF, CONSISTENCY, MANIFEST = "auditlake proof 1", "auditlake consistency 1", "auditlake/evidence"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Span = tuple[datetime, datetime]
_NOTE_SIGNATURES, _AHEAD = 16, 86_400_000_000  # the latter in microseconds
_CHECKPOINTS = "checkpoints/"
_SHOWN, _MOMENT = 3, "%Y-%m-%d %H:%M:%S"
_COMPLETE = "complete, the whole time range was fetched"
_UNLISTED = "  NOT LISTED: the pack does not show how many of them are in the time range"
# 32 bytes in base64: the last letter has two bits, which have one spelling.
_HASH = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_PARTS = {
    PROOF: ("what", "table", "record", "proof"),
    CONSISTENCY: ("what", "old", "new", "path"),
    "record": ("event_id", "time", "ingested_at", "via", "raw"),
}


class Invalid(Exception):
    """The proof, signature or pack is not valid."""


# A forged file may have any shape: a list for an object, a number for a text, a damaged archive.
MALFORMED = (
    *(Invalid, AttributeError, LookupError, TypeError, ValueError, RuntimeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


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


def entry(record: Mapping[str, str]) -> bytes:
    """Return the log entry of a record with event_id, time, ingested_at, via and raw."""
    raw = hashlib.sha256(record["raw"].encode()).hexdigest()
    time, arrival = (microseconds(record[name]) for name in ("time", "ingested_at"))
    return _entry(raw, time, arrival, record["via"], record["event_id"])


def _entry(digest: str, time: int, arrival: int, via: str, identity: str) -> bytes:
    if "\n" in digest + via:
        raise Invalid("a part of an entry contains a newline")
    return bounded(f"auditlake/1\n{digest}\n{time}\n{arrival}\n{via}\n{identity}")


def bounded(text: str) -> bytes:
    """Encode an entry; one longer than 65,535 bytes is replaced by its hash."""
    data = text.encode()
    if len(data) <= 0xFFFF:
        return data
    return b"auditlake/1 long\n" + hashlib.sha256(data).hexdigest().encode()


def microseconds(text: str) -> int:
    """Return a time such as 2026-03-01T12:00:00.000000Z as microseconds since 1970."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise Invalid(f"{text}: time without a time zone")
    return (time - _EPOCH) // timedelta(microseconds=1)


def read_checkpoint(note: str, keys: Iterable[str]) -> Checkpoint:
    """Return the checkpoint in a note. Raises Invalid unless one of the keys has signed it."""
    return _checkpoint(note, tuple(keys))


# Cached, since many proofs in a pack share a checkpoint and Ed25519 in pure Python is slow.
@lru_cache(maxsize=64)
def _checkpoint(note: str, keys: tuple[str, ...]) -> Checkpoint:
    return checkpoint_in(*read_note(note, keys))


def checkpoint_in(text: str, signer: str = "") -> Checkpoint:
    """Parse the text of a checkpoint, without checking a signature. Raises Invalid."""
    found = re.fullmatch(f"([^\n]+)\n(0|[1-9][0-9]*)\n({_HASH})\n", text)
    if not found:
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
    for line in signatures.splitlines()[:_NOTE_SIGNATURES]:
        found = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/]+=*)", line)
        if not found:
            raise Invalid("malformed signature line")
        blob = base64.b64decode(found[2])
        # Signatures of unknown keys are skipped; one that claims a known key must be valid.
        for name, number, public in known:
            if (name, number) == (found[1], blob[:4]):
                if not ed25519(public, text.encode(), blob[4:]):
                    raise Invalid(f"the signature of {name} is invalid")
                signer = f"{name}+{number.hex()}"
    if not signer:
        raise Invalid("not signed by any of the given keys")
    return text, signer


def _key(vkey: str) -> tuple[str, bytes, bytes]:
    """Return (name, id, public key) of a verifier key: name+id+base64(1 || key)."""
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})", vkey.strip())
    public = base64.b64decode(found[3]) if found else b""
    expected = hashlib.sha256(found[1].encode() + b"\n" + public).hexdigest()[:8] if found else ""
    if not found or public[:1] != b"\1" or expected != found[2]:
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


def check_proof(document: Mapping[str, Any], keys: Sequence[str]) -> Checkpoint:
    """Return the checkpoint that covers the record of a proof document.

    Raises Invalid unless the proof holds and one of the keys has signed the checkpoint.
    """
    _check_parts(document, PROOF)
    _check_parts(document["record"], "record")
    table, (head, blank, note) = document["table"], document["proof"].partition("\n\n")
    first, index, *path = head.split("\n")
    place = re.fullmatch("index (0|[1-9][0-9]*)", index)
    if first != "c2sp.org/tlog-proof@v1" or not blank or not place:
        raise Invalid("not a c2sp.org/tlog-proof@v1")
    checkpoint = read_checkpoint(note, keys)
    # Two names of printable ASCII, without slashes.
    if not re.fullmatch("raw(/[!-.0-~]+){2}", table):
        raise Invalid(f"{table}: not a table such as raw/okta/system_log")
    if not checkpoint.origin.rpartition("/")[0].endswith(table.removeprefix("raw")):
        raise Invalid(f"the checkpoint belongs to {checkpoint.origin}, not to {table}")
    leaf, siblings = leaf_hash(entry(document["record"])), list(map(_hash, path))
    if included(leaf, int(place[1]), checkpoint.size, siblings) != checkpoint.root:
        raise Invalid(f"{table}: the record is not at index {place[1]} of the log")
    return checkpoint


def _check_parts(document: Mapping[str, Any], kind: str) -> None:
    """Raise Invalid unless the object has exactly the parts of its kind."""
    if odd := set(document) ^ set(_PARTS[kind]):
        raise Invalid(f"{min(odd)}: a missing or unknown part of the {kind.split()[-2:][0]}")


def _hash(text: str) -> bytes:
    if not re.fullmatch(_HASH, text):
        raise Invalid("not the hash of a node in base64")
    return base64.b64decode(text)


def _parsed(text: str | bytes) -> Any:
    """Parse JSON in which no object has a key twice: readers differ in which one they take."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise Invalid("an object contains a key twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def check_growth(document: Mapping[str, Any], keys: Sequence[str]) -> Checkpoint:
    """Return the new checkpoint of a consistency proof. Raises Invalid if the proof fails."""
    _check_parts(document, CONSISTENCY)
    old, new = (read_checkpoint(document[name], keys) for name in ("old", "new"))
    check_consistency(old, new, list(map(_hash, document["path"])))
    return new


def check_pack(path: str, keys: Sequence[str]) -> list[str]:
    """Return one line per statement that an evidence pack proves.

    Raises Invalid at the first part that is missing, altered or contradictory.
    """
    with zipfile.ZipFile(path) as pack:
        if len(set(pack.namelist())) != len(pack.namelist()):
            raise Invalid("the pack contains a file twice")
        files = {name: pack.read(name) for name in pack.namelist() if name != "manifest.txt"}
        manifest = pack.read("manifest.txt").decode()
    proved = [*_check_manifest(manifest, files, keys)]
    proofs = [_parsed(line) for line in files["records.ndjson"].splitlines()]
    heads = [check_proof(proof, keys) for proof in proofs]
    for origin, size in sorted({(head.origin, head.size) for head in heads}):
        count = sum((head.origin, head.size) == (origin, size) for head in heads)
        proved.append(f"{count:,} records are in the log {origin}, as signed at size {size:,}")
    records = {(proof["table"], proof["record"]["event_id"]) for proof in proofs}
    if len(records) != len(proofs):
        raise Invalid("the pack contains a record twice")
    events = [_parsed(line) for line in files["events.ndjson"].splitlines()]
    for event in events:
        if (f"raw/{event['integration']}/{event['stream']}", event["event_id"]) not in records:
            raise Invalid(f"the event {event['event_uid']} has no record in the pack")
    proved.append(f"{len(events):,} events, each with its record in the pack")
    query, rows = _parsed(files["query.json"]), files["coverage.ndjson"].splitlines()
    shown = {leaf_hash(entry(proof["record"])) for proof in proofs}
    logs: list[str] = []
    for name in (name for name in files if name.startswith(_CHECKPOINTS)):
        head = read_checkpoint(files[name].decode(), keys)
        proved.append(f"the log {head.origin} had {head.size:,} records")
        listed = files.get(name.replace(_CHECKPOINTS, "leaves/").replace(".txt", ".ndjson"))
        span = microseconds(query["since"]), microseconds(query["until"])
        proved.append(_check_leaves(listed, head, span, shown) if listed else _UNLISTED)
        # Named <integration>.<stream>.txt: only the first dot separates the two.
        logs.append(name[len(_CHECKPOINTS) :].removesuffix(".txt").replace(".", "/", 1))
    return [*proved, *_coverage(logs, (query["since"], query["until"]), map(_parsed, rows))]


def _check_leaves(listed: bytes, head: Checkpoint, span: tuple[int, int], shown: set[bytes]) -> str:
    """Return how many records of a time range a pack withholds, by its list of the log's leaves."""
    opening, *lines = map(_parsed, listed.splitlines())
    leaves = [leaf_hash(_entry(*line)) if line[1:] else bytes.fromhex(line[0]) for line in lines]
    first, peaks = opening["first"], [*map(_hash, opening["before"])]
    if first + len(leaves) != head.size or extended(first, peaks, leaves) != head.root:
        raise Invalid(f"the leaves listed of {head.origin} are not as signed")
    known = [(leaf, line) for leaf, line in zip(leaves, lines, strict=True) if len(line) > 1]
    inside = [leaf for leaf, line in known if span[0] <= line[1] < span[1]]
    withheld = sum(leaf not in shown for leaf in inside)
    found = f"  from row {first:,} all are listed: {len(inside):,} in the time range, of which "
    found += f"{withheld:,} are withheld (their hashes are in leaves/)"
    if len(known) < len(leaves):
        found += f"; {len(leaves) - len(known):,} are listed without their time"
    # Records arrive after they happened, and times more than a day ahead are rejected.
    if first and not any(line[2] < span[0] - _AHEAD for _, line in known):
        found += f"; NOT LISTED: {first:,} earlier rows, some of which may be in the range"
    return found


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


def _check_manifest(manifest: str, files: Mapping[str, bytes], keys: Sequence[str]) -> list[str]:
    text, signer = read_note(manifest, keys)
    title, *lines = text.splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if title != MANIFEST:
        raise Invalid("manifest.txt is not that of an evidence pack")
    if changed := [n for n in files if listed.get(n) != hashlib.sha256(files[n]).hexdigest()]:
        raise Invalid(f"{changed[0]} is not as it was signed")
    if missing := sorted(set(listed) - set(files)):
        raise Invalid(f"{missing[0]} is missing")
    return [f"{len(files)} files are as signed by {signer}"]


def _coverage(
    logs: Iterable[str], span: tuple[str, str], rows: Iterable[Mapping[str, str]]
) -> list[str]:
    """Return one line per log: whether the span was fetched completely, and if not, the gaps."""
    since, until = map(datetime.fromisoformat, span)
    fetched: dict[str, list[_Span]] = {log: [] for log in logs}
    # What is gone stays missing, even if its time was fetched again later.
    for row in sorted(rows, key=lambda row: row["outcome"] == "gone"):
        spans = fetched.setdefault(f"{row['integration']}/{row['stream']}", [])
        first, last = (datetime.fromisoformat(row[end]) for end in ("since", "until"))
        if row["outcome"] == "complete":
            spans.append((first, last))
        elif row["outcome"] == "gone":
            spans[:] = [part for a, b in spans for part in ((a, min(b, first)), (max(a, last), b))]
    found = []
    for log, spans in sorted(fetched.items()):
        gaps = [f"{a:{_MOMENT}} to {b:{_MOMENT}}" for a, b in _missing(since, until, spans)]
        more = f" and {len(gaps) - _SHOWN} more spans" if len(gaps) > _SHOWN else ""
        summary = f"GAPS: {', '.join(gaps[:_SHOWN])}{more} UTC; see coverage.ndjson"
        found.append(f"coverage of {log}: {summary if gaps else _COMPLETE}")
    return found


def _missing(since: datetime, until: datetime, spans: Iterable[_Span]) -> Iterator[_Span]:
    """Yield the parts of [since, until) that none of the spans cover."""
    for first, last in sorted(span for span in spans if span[0] < span[1]):
        if first > since and since < until:
            yield since, min(first, until)
        since = max(since, last)
    if since < until:
        yield since, until


def check_file(path: str, keys: Sequence[str]) -> list[str]:
    """Return a line per statement that a proof, pack or certificate proves. Raises Invalid."""
    if zipfile.is_zipfile(path):
        return check_pack(path, keys)
    content = Path(path).read_bytes()
    if content.startswith(f"{CERTIFICATE}\n".encode()):
        text, signer = read_note(content.decode("utf-8", "replace"), keys)
        return [*text.splitlines(), f"signed by {signer}"]
    document = _parsed(content)
    if document.get("what") == CONSISTENCY:
        head = check_growth(document, keys)
        return [f"{head.origin} has only grown, up to {head.size:,} records"]
    if document.get("what") != PROOF:
        raise Invalid("neither a proof, an evidence pack nor a certificate")
    head, record = check_proof(document, keys), document["record"]
    where = f"{document['table']} {record['event_id']} of {record['time']} is in the log"
    return [f"{where} {head.origin} as signed at size {head.size:,}", f"signed by {head.signer}"]


def keys_in(path: str) -> list[str]:
    """Return the keys inside a pack; they prove nothing unless compared with the published ones."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as pack:
        return pack.read("keys.txt").decode().split()


def main() -> int:
    itself = sys.argv[0] if zipfile.is_zipfile(sys.argv[0]) else None
    options = argparse.ArgumentParser(description="Check an auditlake proof or evidence pack.")
    options.add_argument("file", nargs="?" if itself else None, default=itself)
    options.add_argument("--key", action="append", help="the public key, as published")
    given = options.parse_args()
    try:
        keys = given.key or keys_in(given.file)
        if not keys:
            options.error("pass the published key with --key")
        for line in check_file(given.file, keys):
            # Coverage is stated by the operator; no signature in the lake proves it.
            proved = "claim" if line.startswith("coverage of") else "ok"
            print(_ascii(f"{proved if given.key else '?':6}{line}"))
    except MALFORMED as error:
        print(_ascii(f"FAILED {given.file}: {error}"))
        return 1
    if not given.key:
        print("Nothing is proved yet: these keys came with the pack. Pass the published one: --key")
        print("\n".join(map(_ascii, keys)))
    return 0 if given.key else 2


def _ascii(text: str) -> str:
    """Return text as one line in which no character from the file can hide or forge another."""
    return "".join(char if " " <= char <= "~" else f"[U+{ord(char):04X}]" for char in text)


if __name__ == "__main__":
    sys.exit(main())
