"""The writer: after each commit to a raw table, its tree grows and a checkpoint is signed.

Commit, tiles, signature, memory, history, checkpoint: in this order, so that whatever a kill leaves
behind is either finished by the next call or was never promised. The tree is only ever extended
from a state that was signed, so no two checkpoints can contradict each other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import polars as pl

from pipelines import lake as lakes
from pipelines.errors import ConfigurationError, LakeError
from pipelines.integrity import anchors, keys, memory, merkle, note, removals, store, tiles
from pipelines.integrity.merkle import Edge
from pipelines.integrity.note import Head
from pipelines.integrity.store import Folder
from pipelines.lake import Lake, Log
from pipelines.settings import IntegritySettings

ACTS = "acts"
"""The log of what people did to the lake on purpose."""

_CHUNK = 65_536
_LONGEST = 65_535


class Alarm(LakeError):
    """The table is not what was signed; nothing more is written to it until a person has looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Where a log's tree is kept, who signs it, and what is remembered of it."""

    settings: IntegritySettings
    name: str
    """Such as okta/system_log."""
    folder: Folder
    place: Path

    @property
    def table(self) -> str:
        return f"raw/{self.name}"


def of(lake: Lake, name: str) -> Ledger | None:
    """The ledger of `name`, or None where this lake is not signed."""
    settings = lake.integrity
    if settings is None or not settings.sign:
        return None
    folder = settings.folder.expanduser().resolve()
    if lake.local is not None and folder.is_relative_to(lake.local.resolve()):
        raise ConfigurationError("integrity.folder lies in the lake: keys must not: move it out")
    keys.folder(settings)
    return Ledger(
        settings=settings,
        name=name,
        folder=store.of(lake, f"integrity/{name}"),
        place=memory.folder(lake, settings),
    )


def sign(lake: Lake, log: Log, rows: int, now: datetime, fresh: pl.DataFrame | None = None) -> None:
    """Sign that `log` has these `rows`, of which `fresh` are the newest.

    Called without `fresh` it makes up for what a kill prevented. Raises Alarm where the table is
    shorter than, or other than, what was signed.
    """
    kept = of(lake, log.app)
    if kept is None or (rows == 0 and _begins_anew(lake, log, kept)):
        return
    with memory.alone(kept.place, kept.table):
        signed = last_signed(kept)
        if signed and (fresh is None or rows < signed.size):
            _whole(lake, log, kept, signed)
        if rows and (signed is None or rows > signed.size or published(kept) != signed):
            head, edge = _standing(lake, log, kept, signed)
            for frame in _rows(lake, log, head.size, rows, fresh):
                head, edge = grow(kept, head, edge, entries(frame))
            announce(kept, head, now)
    anchors.deliver_soon(kept.place, kept.settings)


def published(kept: Ledger) -> Head | None:
    """The checkpoint that stands in the lake. Raises Alarm where nobody known has signed it."""
    return _opened(kept, kept.folder.get("checkpoint") or b"")


def last_signed(kept: Ledger) -> Head | None:
    """The newest head that is known to be signed, here or in the lake."""
    known = memory.recall(kept.place, kept.table)
    held = published(kept) or _opened(kept, _newest_note(kept.folder))
    if known is None or held is None:
        return known or held
    same = known.origin == held.origin
    if not same or (known.size == held.size and known.root != held.root):
        raise _alarm(kept.table, "has the checkpoint of another log than the one signed here")
    return max(known, held, key=lambda head: head.size)


def _opened(kept: Ledger, text: bytes) -> Head | None:
    text = text.strip(b"\0")  # as a power cut may leave it
    head = note.opened(text, keys.trusted(kept.settings))
    if text and (head is None or not head.origin.rpartition("/")[0].endswith(kept.name)):
        raise _alarm(kept.table, "has a checkpoint that no key known here has signed")
    return head


def _newest_note(folder: Folder) -> bytes:
    months = folder.names("history")
    lines = list(folder.lines(f"history/{months[-1]}")) if months else []
    for line in reversed(lines):
        with suppress(ValueError, KeyError):  # a power cut may leave half a line
            return str(json.loads(line)["note"]).encode()
    return b""


def removed(lake: Lake, name: str) -> list[tuple[int, int]]:
    """The rows that recorded acts took from the log `name`: (first, until), they may overlap."""
    kept, done = of(lake, name), of(lake, ACTS)
    signed = done and last_signed(done)
    if not kept or not done or not signed:
        return []
    return removals.spans(done.folder, signed, kept.folder, kept.table)


def grow(kept: Ledger, head: Head, edge: Edge, fresh: Sequence[bytes]) -> tuple[Head, Edge]:
    """Write the tiles of a tree to which these entries came; nothing is signed yet."""
    edge, changed = merkle.grown(edge, head.size, [merkle.leaf(entry) for entry in fresh])
    tiles.write(kept.folder, changed)
    tiles.write_entries(kept.folder, head.size, fresh)
    return replace(head, size=head.size + len(fresh), root=merkle.root(edge)), edge


def announce(kept: Ledger, head: Head, now: datetime) -> None:
    """Sign `head`, remember that, and make it the checkpoint."""
    text = note.signed(head.text, keys.signing(kept.settings))
    memory.remember(kept.place, kept.table, head)
    line = json.dumps({"at": now.isoformat(), "size": head.size, "note": text.decode()})
    kept.folder.add(f"history/{now:%Y-%m}", line.encode() + b"\n")
    anchors.post(kept.place, kept.settings, head, text)
    kept.folder.put("checkpoint", text)


def new_head(kept: Ledger) -> Head:
    """An empty log; its name is never used again, so a lake begun anew contradicts nothing."""
    origin = f"{kept.settings.name}/{kept.name}/{secrets.token_hex(4)}"
    return Head(origin=origin, size=0, root=merkle.EMPTY)


def entries(rows: pl.DataFrame) -> list[bytes]:
    """What the leaves are made of: all that a raw row says, in one way only. See docs/integrity.md.

    The id comes last because it alone may hold any character.
    """
    times, arrivals = (rows[name].to_physical().to_list() for name in ("time", "ingested_at"))
    texts = (rows[name].to_list() for name in ("raw_sha256", "via", "event_id"))
    made = [
        f"auditlake/1\n{digest}\n{time}\n{arrival}\n{via}\n{identity}".encode()
        for digest, via, identity, time, arrival in zip(*texts, times, arrivals, strict=True)
    ]
    return [entry if len(entry) <= _LONGEST else _shortened(entry) for entry in made]


def _shortened(entry: bytes) -> bytes:
    """A bundle has two bytes for the length of an entry."""
    return b"auditlake/1 long\n" + sha256(entry).hexdigest().encode()


def _begins_anew(lake: Lake, log: Log, kept: Ledger) -> bool:
    """Is all of this log gone, as after a person removed the lake? Then a new one may begin."""
    if kept.folder.names("") or lakes.open_table(lake, log.table) or lakes.derived(lake, log):
        return False
    memory.forget(kept.place, kept.table)
    return True


def _whole(lake: Lake, log: Log, kept: Ledger, signed: Head) -> None:
    """Raises Alarm where the end of what was signed is gone; a slow writer's `rows` say nothing."""
    held = _held(lake, log)
    if held < signed.size and not _removed(lake, kept, range(held, signed.size)):
        raise _alarm(kept.table, f"has {held:,} rows, but {signed.size:,} were signed")


def _held(lake: Lake, log: Log) -> int:
    """How far the rows reach that the table has; the fence outlives a `restore`, rows do not."""
    with lakes.lent(lake, log.table) as table:
        files = pl.DataFrame(table.get_add_actions(flatten=True)) if table else pl.DataFrame()
    if "max.seq" not in files.columns:
        return 0
    newest = files["max.seq"].max()
    return newest + 1 if isinstance(newest, int) else 0


def _removed(lake: Lake, kept: Ledger, rows: range) -> bool:
    """Did recorded acts of retention take these rows away?"""
    done = of(lake, ACTS)
    signed = done and last_signed(done)
    if not done or not signed:
        return False
    return removals.cover(done.folder, signed, kept.folder, kept.table, rows)


def _standing(lake: Lake, log: Log, kept: Ledger, signed: Head | None) -> tuple[Head, Edge]:
    """The signed tree, from its tiles or, where they are damaged, from the rows."""
    if signed is None:
        return new_head(kept), ()
    edge = tiles.edge(kept.folder, signed.size)
    if edge is not None and merkle.root(edge) == signed.root:
        return signed, edge
    head, edge = replace(signed, size=0, root=merkle.EMPTY), ()
    for frame in _rows(lake, log, 0, signed.size, None):
        head, edge = grow(kept, head, edge, entries(frame))
    if head != signed:
        raise _alarm(kept.table, "has other rows than were signed, and its tiles are damaged")
    return head, edge


def _rows(
    lake: Lake, log: Log, first: int, until: int, fresh: pl.DataFrame | None
) -> Iterator[pl.DataFrame]:
    """The rows from `first` up to `until` by seq; read back only where they are not `fresh`."""
    begun = until if fresh is None or fresh.is_empty() else int(fresh["seq"][0])
    for start in range(first, begun, _CHUNK):
        end = min(start + _CHUNK, begun)
        rows = lakes.raw_rows(lake, log, start, end)
        if rows["seq"].to_list() != list(range(start, end)):
            raise _alarm(log.table, f"lacks rows from {start:,} to {end:,}")
        yield rows
    if fresh is not None:
        yield fresh[max(0, first - begun) :]


def _alarm(table: str, what: str) -> Alarm:
    return Alarm(
        f"{table}: {what}: nothing more is written to it; run `auditlake verify`, "
        "then follow 'When an alarm sounds' in docs/integrity.md"
    )
