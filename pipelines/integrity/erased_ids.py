"""Keeps erased records from coming back: re-reads and backfills skip them by a hash of their id.

The hashes are keyed, and lie next to the list of rows whose hash the signed act of the erasure has.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import polars as pl

from pipelines.integrity import operator_acts, signer
from pipelines.integrity.files import Folder
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk import record_versions

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Erased:
    """The erased ids of one act: a key, and the hashes with it."""

    key: bytes
    hashes: frozenset[str]

    def has(self, identity: str) -> bool:
        return _hash(self.key, identity) in self.hashes


_known: dict[tuple[str, str], tuple[bytes | None, list[_Erased]]] = {}
"""Lake and log -> the checkpoint of the acts, and the ids they have erased."""


def store(folder: Folder, ids: Iterable[str]) -> str:
    """Store the hashes of these ids next to a log, and return the digest that the act has."""
    key = secrets.token_bytes(_KEY_BYTES)
    hashes = sorted({_hash(key, each) for each in ids})
    listed = json.dumps({"key": key.hex(), "ids": hashes}).encode()
    digest = sha256(listed).hexdigest()
    folder.put(_path(digest), listed)
    return digest


def without(
    lake: Lake, log: StreamKey, batch: pl.DataFrame, record: pl.Expr | None
) -> pl.DataFrame:
    """Return the rows of a batch whose records have not been erased.

    `record` is the id without its version, where the vendor publishes changed records again.
    """
    found = _of(lake, log) if batch.height else []
    if not found:
        return batch
    ids = batch.select(record_of(record))["event_id"].to_list()
    kept = [not any(each.has(identity) for each in found) for identity in ids]
    return batch.filter(pl.Series(kept, dtype=pl.Boolean))


def record_of(record: pl.Expr | None) -> pl.Expr:
    """Return the id that all versions of a record share, as `event_id`."""
    return (record_versions.record_id() if record is None else record).alias("event_id")


def _of(lake: Lake, log: StreamKey) -> list[_Erased]:
    acts = signer.of(lake, signer.ACTS)
    if acts is None:
        return []
    checkpoint, place = acts.folder.get("checkpoint"), (lake.root, log.app)
    if place not in _known or _known[place][0] != checkpoint:
        _known[place] = checkpoint, _read(lake, log)
    return _known[place][1]


def _read(lake: Lake, log: StreamKey) -> list[_Erased]:
    kept = signer.of(lake, log.app)
    ours = [act for act in operator_acts.recorded(lake) if act.get("table") == log.table]
    found = (_erased(kept.folder, act) for act in ours if kept and "ids_sha256" in act)
    return [each for each in found if each]


def _erased(folder: Folder, act: Mapping[str, Any]) -> _Erased | None:
    """Return the erased ids of an act; None if their file is missing or altered."""
    listed = folder.get(_path(act["ids_sha256"])) or b""
    if sha256(listed).hexdigest() != act["ids_sha256"]:
        return None
    document = json.loads(listed)
    return _Erased(key=bytes.fromhex(document["key"]), hashes=frozenset(document["ids"]))


def _path(digest: str) -> str:
    return f"removed/{digest}.ids.json"


def _hash(key: bytes, identity: str) -> str:
    return hmac.new(key, identity.encode(errors="surrogatepass"), sha256).hexdigest()
