"""Checks proofs and evidence packs; needs only Python 3.11: `python3 audit.py FILE --key KEY`.

It shares no code with the program that signs, so neither can hide an error of the other, and needs
no other file than proofs.py. Every evidence pack contains a copy of both. The proofs have the form
of https://c2sp.org/tlog-proof.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __package__:
    from pipelines.integrity.verifier import proofs
else:  # a copy outside of the project
    import proofs  # type: ignore[import-not-found, no-redef]

CERTIFICATE = "auditlake coverage certificate 1"
PROOF, CONSISTENCY, MANIFEST = "auditlake proof 1", "auditlake consistency 1", "auditlake/evidence"
_Span = tuple[datetime, datetime]
_AHEAD = 86_400_000_000  # microseconds
_CHECKPOINTS = "checkpoints/"
_SHOWN, _MOMENT = 3, "%Y-%m-%d %H:%M:%S"
_COMPLETE = "complete, the whole time range was fetched"
_UNLISTED = "  NOT LISTED: the pack does not show how many of them are in the time range"
_TYPES = {"record": dict, "path": list}
_PARTS = {
    PROOF: ("what", "table", "record", "proof"),
    CONSISTENCY: ("what", "old", "new", "path"),
    "record": ("event_id", "time", "ingested_at", "via", "raw"),
}

# A forged file may have any shape: a list for an object, a number for a text, a damaged archive.
_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError),
    *(EOFError, OSError, zipfile.BadZipFile, zlib.error),
)
_MOST_BYTES, _FEW_BYTES, _RATIO = 2**31, 2**26, 200  # of the files in a pack, unpacked
_ENTRY = [str, int, int, str, str]  # the parts of an entry, in the order of `proofs.entry_of`
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """The public keys of witnesses, and how many of them must have seen a log."""

    keys: Sequence[str]
    least: int


def check_proof(document: Mapping[str, Any], keys: Sequence[str]) -> proofs.Checkpoint:
    """Return the checkpoint that covers the record of a proof document.

    Raises Invalid unless the proof holds and one of the keys has signed the checkpoint.
    """
    _check_parts(document, PROOF)
    _check_parts(document["record"], "record")
    table, (head, blank, note) = document["table"], document["proof"].partition("\n\n")
    first, index, *path = head.split("\n")
    place = re.fullmatch("index (0|[1-9][0-9]*)", index)
    if first != "c2sp.org/tlog-proof@v1" or not blank or not place:
        raise proofs.Invalid("not a c2sp.org/tlog-proof@v1")
    checkpoint = proofs.read_checkpoint(note, keys)
    # Two names of printable ASCII, without slashes.
    if not re.fullmatch("raw(/[!-.0-~]+){2}", table):
        raise proofs.Invalid(f"{table}: not a table such as raw/okta/system_log")
    if not checkpoint.origin.rpartition("/")[0].endswith(table.removeprefix("raw")):
        raise proofs.Invalid(f"the checkpoint belongs to {checkpoint.origin}, not to {table}")
    leaf = proofs.leaf_hash(proofs.entry(document["record"]))
    siblings = list(map(proofs.hash_in, path))
    if proofs.included(leaf, int(place[1]), checkpoint.size, siblings) != checkpoint.root:
        raise proofs.Invalid(f"{table}: the record is not at index {place[1]} of the log")
    return checkpoint


def _check_parts(document: Mapping[str, Any], kind: str) -> None:
    """Raise Invalid unless the object has exactly the parts of its kind, and of their types."""
    name = kind.split()[-2:][0]
    if not isinstance(document, dict):
        raise proofs.Invalid(f"the {name} is not an object")
    if odd := set(document) ^ set(_PARTS[kind]):
        raise proofs.Invalid(f"{min(odd)}: a missing or unknown part of the {name}")
    for part, value in document.items():
        if not isinstance(value, _TYPES.get(part, str)):
            raise proofs.Invalid(f"{part}: a part of the {name} has the wrong type")


def check_growth(document: Mapping[str, Any], keys: Sequence[str]) -> proofs.Checkpoint:
    """Return the new checkpoint of a consistency proof. Raises Invalid if the proof fails."""
    _check_parts(document, CONSISTENCY)
    old, new = (proofs.read_checkpoint(document[name], keys) for name in ("old", "new"))
    proofs.check_consistency(old, new, list(map(proofs.hash_in, document["path"])))
    return new


def check_pack(path: str, keys: Sequence[str], quorum: Quorum | None = None) -> list[str]:
    """Return one line per statement that an evidence pack proves.

    Raises Invalid at the first part that is missing, altered or contradictory, and if fewer
    witnesses than the quorum have seen one of its logs.
    """
    files = _unpacked(path)
    manifest = files.pop("manifest.txt").decode()
    proved = [*_check_manifest(manifest, files, keys)]
    listed = [proofs.parsed(line) for line in files["records.ndjson"].splitlines()]
    heads = [check_proof(proof, keys) for proof in listed]
    for origin, size in sorted({(head.origin, head.size) for head in heads}):
        count = sum((head.origin, head.size) == (origin, size) for head in heads)
        proved.append(f"{count:,} records are in the log {origin}, as signed at size {size:,}")
    records = {(proof["table"], proof["record"]["event_id"]) for proof in listed}
    if len(records) != len(listed):
        raise proofs.Invalid("the pack contains a record twice")
    events = [proofs.parsed(line) for line in files["events.ndjson"].splitlines()]
    for event in events:
        if (f"raw/{event['integration']}/{event['stream']}", event["event_id"]) not in records:
            raise proofs.Invalid(f"the event {event['event_uid']} has no record in the pack")
    proved.append(f"{len(events):,} events, each with its record in the pack")
    query, rows = proofs.parsed(files["query.json"]), files["coverage.ndjson"].splitlines()
    shown = {proofs.leaf_hash(proofs.entry(proof["record"])) for proof in listed}
    logs: list[str] = []
    for name in (name for name in files if name.startswith(_CHECKPOINTS)):
        head = proofs.read_checkpoint(files[name].decode(), keys)
        proved.append(f"the log {head.origin} had {head.size:,} records")
        if quorum:
            seen = files.get(name.replace(_CHECKPOINTS, "cosignatures/").replace(".txt", ".ndjson"))
            cosigned = _cosigned((seen or b"").splitlines(), head, keys)
            proved.append(_witnessed(cosigned, head, quorum))
        leaves = files.get(name.replace(_CHECKPOINTS, "leaves/").replace(".txt", ".ndjson"))
        span = _moment(query["since"]), _moment(query["until"])
        proved.append(_check_leaves(leaves, head, span, shown) if leaves else _UNLISTED)
        # Named <integration>.<stream>.txt: only the first dot separates the two.
        logs.append(name[len(_CHECKPOINTS) :].removesuffix(".txt").replace(".", "/", 1))
    return [*proved, *_coverage(logs, (query["since"], query["until"]), map(proofs.parsed, rows))]


def _unpacked(path: str) -> dict[str, bytes]:
    """Return the files of a pack. Raises Invalid if they are far larger than the pack."""
    with zipfile.ZipFile(path) as pack:
        listed = pack.infolist()
        if len({each.filename for each in listed}) != len(listed):
            raise proofs.Invalid("the pack contains a file twice")
        if any(each.compress_type not in _STORED for each in listed):
            raise proofs.Invalid("the pack is compressed in an unknown way")
        size, packed = sum(each.file_size for each in listed), Path(path).stat().st_size
        if size > min(_MOST_BYTES, max(_FEW_BYTES, _RATIO * packed)):
            raise proofs.Invalid(f"the pack is too large: {size:,} bytes in {packed:,}")
        return {each.filename: pack.read(each) for each in listed}


def _cosigned(
    lines: Iterable[bytes], head: proofs.Checkpoint, keys: Sequence[str]
) -> Iterator[tuple[str, int]]:
    """Yield the cosigned checkpoints in a pack as (note, size). Raises Invalid if one differs."""
    for document in map(proofs.parsed, lines):
        old = proofs.read_checkpoint(document["note"], keys)
        proofs.check_consistency(old, head, list(map(proofs.hash_in, document["path"])))
        yield document["note"], old.size


def _witnessed(notes: Iterable[tuple[str, int]], head: proofs.Checkpoint, quorum: Quorum) -> str:
    """Return how many witnesses have seen a log. Raises Invalid if they are too few."""
    seen: dict[str, tuple[int, int]] = {}
    for note, size in notes:
        for vkey in quorum.keys:
            if at := proofs.cosigned_at(note, vkey):
                seen[vkey] = max((size, at), seen.get(vkey, (0, 0)))
    count = f"{len(seen)} of {len(quorum.keys)} witnesses"
    if len(seen) < quorum.least:
        raise proofs.Invalid(f"{count} have cosigned the log {head.origin}, not {quorum.least}")
    first = sorted(seen.values(), reverse=True)[: quorum.least]
    latest = datetime.fromtimestamp(max(at for _, at in first), UTC)
    rows = f"{first[-1][0]:,} of its {head.size:,} records"
    return f"  {count} have seen it, {quorum.least} of them {rows} at {latest:{_MOMENT}} UTC"


def _check_leaves(
    listed: bytes, head: proofs.Checkpoint, span: tuple[int, int], shown: set[bytes]
) -> str:
    """Return how many records of a time range a pack withholds, by its list of the log's leaves."""
    opening, *lines = map(proofs.parsed, listed.splitlines())
    leaves = [_listed(line) for line in lines]
    first, peaks = opening["first"], [*map(proofs.hash_in, opening["before"])]
    if first + len(leaves) != head.size or proofs.extended(first, peaks, leaves) != head.root:
        raise proofs.Invalid(f"the leaves listed of {head.origin} are not as signed")
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


def _moment(text: str) -> int:
    """Return an end of the time range, which has an offset, as microseconds since 1970."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise proofs.Invalid(f"{text}: time without a time zone")
    return proofs.since_epoch(time)


def _listed(line: list[Any]) -> bytes:
    """Return the hash of a listed leaf: of the parts of its entry, or as it stands."""
    if [type(part) for part in line] not in (_ENTRY, [str]):
        raise proofs.Invalid("a listed leaf is malformed")
    return proofs.leaf_hash(proofs.entry_of(*line)) if line[1:] else bytes.fromhex(line[0])


def _check_manifest(manifest: str, files: Mapping[str, bytes], keys: Sequence[str]) -> list[str]:
    text, signer = proofs.read_note(manifest, keys)
    title, *lines = text.splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if title != MANIFEST:
        raise proofs.Invalid("manifest.txt is not that of an evidence pack")
    if changed := [n for n in files if listed.get(n) != hashlib.sha256(files[n]).hexdigest()]:
        raise proofs.Invalid(f"{changed[0]} is not as it was signed")
    if missing := sorted(set(listed) - set(files)):
        raise proofs.Invalid(f"{missing[0]} is missing")
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


def check_file(path: str, keys: Sequence[str], quorum: Quorum | None = None) -> list[str]:
    """Return a line per statement that a proof, pack or certificate proves. Raises Invalid.

    Proofs and packs must have been seen by the quorum of witnesses; a certificate is no part of a
    log, so that no witness sees it.
    """
    with _one_error():
        return _check_file(path, keys, quorum)


@contextmanager
def _one_error() -> Iterator[None]:
    """Raise Invalid for any error that reading a forged file may cause."""
    try:
        yield
    except _MALFORMED as error:
        raise proofs.Invalid(f"malformed: {type(error).__name__}: {error}") from None


def _check_file(path: str, keys: Sequence[str], quorum: Quorum | None) -> list[str]:
    if zipfile.is_zipfile(path):
        return check_pack(path, keys, quorum)
    content = Path(path).read_bytes()
    if content.startswith(f"{CERTIFICATE}\n".encode()):
        text, signer = proofs.read_note(content.decode("utf-8", "replace"), keys)
        return [*text.splitlines(), f"signed by {signer}"]
    document = proofs.parsed(content)
    if not isinstance(document, dict):
        raise proofs.Invalid("neither a proof, an evidence pack nor a certificate")
    if document.get("what") == CONSISTENCY:
        head = check_growth(document, keys)
        seen = [_witnessed([(document["new"], head.size)], head, quorum)] if quorum else []
        return [f"{head.origin} has only grown, up to {head.size:,} records", *seen]
    if document.get("what") != PROOF:
        raise proofs.Invalid("neither a proof, an evidence pack nor a certificate")
    head, record = check_proof(document, keys), document["record"]
    where = f"{document['table']} {record['event_id']} of {record['time']} is in the log"
    note = document["proof"].partition("\n\n")[2]
    seen = [_witnessed([(note, head.size)], head, quorum)] if quorum else []
    signed = f"signed by {head.signer}"
    return [f"{where} {head.origin} as signed at size {head.size:,}", signed, *seen]


def quorum_of(witnesses: Sequence[str], least: int | None) -> Quorum | None:
    """Return the quorum of these witnesses, by default all; None if there are none.

    Raises Invalid for one that they cannot reach, and for keys that are not those of witnesses.
    """
    names = {proofs.witness_name(vkey) for vkey in witnesses}
    if len(names) < len(witnesses) or not 0 < (least or len(names) or 1) <= max(len(names), 1):
        raise proofs.Invalid("--quorum: give as many --witness, each of another name, or more")
    if least and not names:
        raise proofs.Invalid("--quorum: give the public keys of the witnesses with --witness")
    return Quorum(keys=witnesses, least=least or len(names)) if names else None


def keys_in(path: str) -> list[str]:
    """Return the keys inside a pack; they prove nothing unless compared with the published ones.

    Raises Invalid for a damaged pack.
    """
    with _one_error():
        return _unpacked(path)["keys.txt"].decode().split() if zipfile.is_zipfile(path) else []


def main() -> int:
    itself = sys.argv[0] if zipfile.is_zipfile(sys.argv[0]) else None
    options = argparse.ArgumentParser(description="Check an auditlake proof or evidence pack.")
    options.add_argument("file", nargs="?" if itself else None, default=itself)
    options.add_argument("--key", action="append", help="the public key, as published")
    options.add_argument("--witness", action="append", help="the public key of a witness")
    options.add_argument("--quorum", type=int, help="how many must have seen a log; default: all")
    given = options.parse_args()
    try:
        quorum = quorum_of(given.witness or (), given.quorum)
        keys = given.key or keys_in(given.file)
        if not keys:
            options.error("pass the published key with --key")
        for line in check_file(given.file, keys, quorum):
            # Coverage is stated by the operator; no signature in the lake proves it.
            proved = "claim" if line.startswith("coverage of") else "ok"
            print(_ascii(f"{proved if given.key else '?':6}{line}"))
    except proofs.Invalid as error:
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
