"""A small signed lake, with its key, an evidence pack and proofs, whose files targets spoil."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pipelines.integrity import evidence, keys, note, prove
from pipelines.integrity.evidence import Question
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import events, identities, proofs, verify
from pipelines.lake import identity_table, rollup_table, text_index_table
from tests.integrity.worlds import LOG, NOON, Signed

ROWS, BATCH = 300, 150
_LISTED = b"[[0, 10]]"
ACTS: Sequence[Mapping[str, Any]] = (
    {"at": "2026-03-01T12:00:00+00:00", "act": "mapping", "log": LOG.app, "version": 4, "from": 0},
    {"at": "2026-03-01T12:00:00+00:00", "act": "mapping", "log": LOG.app, "version": 5, "from": 9},
    {"at": "2026-03-01T12:00:00+00:00", "act": "renormalised", "log": LOG.app, "version": 5},
    {
        "at": "2026-03-01T12:00:00+00:00",
        "act": "retention",
        "table": LOG.table,
        "rows_sha256": sha256(_LISTED).hexdigest(),
    },
)


@dataclass(frozen=True)
class World:
    """The lake and what was made from it."""

    signed: Signed

    @cached_property
    def key(self) -> note.Key:
        (found,) = keys.signing(self.signed.integrity)
        return found

    @cached_property
    def vkeys(self) -> list[str]:
        return self.signed.vkeys()

    @cached_property
    def proof(self) -> dict[str, Any]:
        return prove.prove(self.signed.lake, f"{LOG.table}/217")

    @cached_property
    def growth(self) -> dict[str, Any]:
        return prove.prover(self.signed.lake, LOG.app).growth(self.first_note)

    @cached_property
    def first_note(self) -> str:
        history = next((self.signed.log / "history").iterdir())
        found: str = json.loads(history.read_bytes().splitlines()[0])["note"]
        return found

    @cached_property
    def pack(self) -> dict[str, bytes]:
        """The files of an evidence pack of a few records, with its name."""
        path = self.signed.folder / "pack.zip"
        question = Question(
            query="seq BETWEEN 210 AND 212",
            since=NOON - timedelta(days=1),
            until=NOON + timedelta(days=2),
        )
        evidence.pack(self.signed.lake, question, path, NOON)
        with zipfile.ZipFile(path) as zipped:
            return {name: zipped.read(name) for name in zipped.namelist()}

    def note(self, text: str) -> bytes:
        """Return a note with this text, signed by the operator's key."""
        return note.signed(text, [self.key])

    def write_acts(self, folder: Path, entries: Sequence[bytes]) -> None:
        """Replace the log of acts in the folder by one with these entries, properly signed."""
        shutil.rmtree(folder, ignore_errors=True)
        bundle = b"".join(len(each).to_bytes(2) + each for each in entries)
        path = folder / "tile" / "entries" / f"000.p/{len(entries)}"
        path.parent.mkdir(parents=True)
        path.write_bytes(bundle)
        root = proofs.root_of([proofs.leaf_hash(each) for each in entries])
        head = Head(origin="auditlake/acts/1", size=len(entries), root=root)
        (folder / "checkpoint").write_bytes(self.note(head.text))


@cache
def world() -> World:
    """Return the lake, which every test of a process shares, with signed acts."""
    folder = Path(tempfile.mkdtemp(prefix="auditlake-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = World(Signed(folder).fill(ROWS, BATCH))
    rollup_table.roll_up(made.signed.lake, NOON.date() + timedelta(days=9))
    text_index_table.index(made.signed.lake, NOON.date() + timedelta(days=9))
    identity_table.derive(made.signed.lake)
    acts = made.signed.folder / "lake" / "integrity" / "acts"
    made.write_acts(acts, [json.dumps(act).encode() for act in ACTS])
    listed = made.signed.log / "removed" / f"{sha256(_LISTED).hexdigest()}.json"
    listed.parent.mkdir()
    listed.write_bytes(_LISTED)
    return made


@contextmanager
def without_waiting() -> Iterator[None]:
    """Let `verify` wait for nobody: no other process writes to this lake."""
    with (
        patch.object(verify, "_PUBLISHING", 0.0),
        patch.multiple(events, _WAITING=0.0, _REMOVING=0.0),
        patch.object(identities, "_DERIVING", 0.0),
    ):
        yield


@contextmanager
def replaced(path: Path, content: bytes | None) -> Iterator[None]:
    """Replace or remove a file while the context lasts."""
    former = path.read_bytes() if path.exists() else None
    _put(path, content)
    try:
        yield
    finally:
        _put(path, former)


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
