"""Targets for `verify`: whatever the lake's files contain, it reports findings and never fails."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path

from pipelines.integrity import note
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import (
    diagnosis,
    identities,
    known_checkpoints,
    operator_acts,
    proofs,
    rollups,
    text_index,
    verify,
)
from pipelines.integrity.verifier.job import TableReport
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.integrity.verifier.proofs import Invalid
from tests.fuzz.spoiling import Choices, edited, spoiled
from tests.fuzz.world import ACTS, replaced, without_waiting, world
from tests.integrity.worlds import LOG

_MOST_FINDINGS = 400  # the rows of the lake, and some


def signed_note(data: bytes) -> None:
    """A note is Invalid, or is read alike by the verifier and by the signer's own reader."""
    text = data.decode("utf-8", "surrogateescape")
    vkeys = world().vkeys
    with suppress(Invalid):
        head = proofs.read_checkpoint(text, vkeys)
        own = note.opened(data, vkeys)
        assert own is not None
        assert (own.origin, own.size, own.root) == (head.origin, head.size, head.root)
        assert text.startswith(own.text)  # printed again, it is the same
    with suppress(Invalid):
        assert proofs.read_note(text, vkeys)[0] == text.rpartition("\n\n")[0] + "\n"


def notes() -> list[bytes]:
    first = world().first_note.encode()
    return [first, world().note("some text\n"), first + first.splitlines(keepends=True)[-1]]


def checkpoint_text(data: bytes) -> None:
    """A properly signed text is Invalid, or is a checkpoint that is printed again the same."""
    text = data.decode("utf-8", "replace")
    with suppress(Invalid):
        head = proofs.read_checkpoint(world().note(text).decode(), world().vkeys)
        assert Head(origin=head.origin, size=head.size, root=head.root).text == text


def checkpoint_texts() -> list[bytes]:
    return [world().first_note.partition("\n\n")[0].encode() + b"\n"]


def vkey(data: bytes) -> None:
    """A public key is Invalid, or has one spelling, which the signer's own reader accepts."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(Invalid):
        name, number, public = proofs._key(text)
        assert note.read_vkey(text.strip()) == ((name, number), public)


def vkeys() -> list[bytes]:
    return [each.encode() for each in world().vkeys]


def acts(data: bytes) -> None:
    """Signed acts of any content are Invalid or read; the others keep their meaning."""
    choices = Choices(data)
    at = choices.below(len(ACTS))
    entries = [json.dumps(act).encode() for act in ACTS]
    entries[at] = spoiled(ACTS[at], choices)[:0xFFFF]
    folder = world().signed.folder / "acts"
    world().write_acts(folder, entries)
    shelf = LogFiles(root=str(folder))
    with suppress(Invalid):
        read = operator_acts.read(shelf, world().vkeys)
        assert len(read) == len(ACTS)
        assert all(isinstance(act, dict) for act in read)
    with suppress(Invalid):
        found = operator_acts.mappings(shelf, LOG.app, world().vkeys)
        for version in (None, 0, 4, 5):
            assert found.excuses(version, 5, 5) in (True, False)
    log = LogFiles(root=str(world().signed.log))
    _check_removed(operator_acts.removed(shelf, log, LOG.table, world().vkeys))


def removed_rows(data: bytes) -> None:
    """A list of removed rows of any content that an act names is ignored, or are spans of rows."""
    choices = Choices(data)
    listed = spoiled([[0, 10], [12, 40]], choices)
    act = {**ACTS[3], "rows_sha256": operator_acts.hashlib.sha256(listed).hexdigest()}
    folder = world().signed.folder / "removing"
    world().write_acts(folder, [json.dumps(act).encode()])
    (folder / "removed").mkdir()
    (folder / "removed" / f"{act['rows_sha256']}.json").write_bytes(listed)
    shelf = LogFiles(root=str(folder))
    _check_removed(operator_acts.removed(shelf, shelf, LOG.table, world().vkeys))


def _check_removed(found: operator_acts.Removed) -> None:
    for first, until in (*found.rows, *found.erased, *found.finished):
        assert 0 <= int(first) < int(until)


def history(data: bytes) -> None:
    """A history of any content is read as far as it holds notes."""
    shelf = LogFiles(root=str(world().signed.log))
    with replaced(_one(world().signed.log / "history"), data):
        for text in diagnosis.history(shelf):
            text.encode()
        diagnosis._history(shelf, proofs.checkpoint_in(f"x\n9\n{'A' * 43}=\n"), 0)


def histories() -> list[bytes]:
    return [_one(world().signed.log / "history").read_bytes()]


def remembered(data: bytes) -> None:
    """The record of this machine of any content yields a checkpoint or nothing."""
    place = world().signed.place.memory
    with replaced(place / "signed" / "raw.okta.system_log.ndjson", data):
        for found in known_checkpoints.remembered(place, LOG.table):
            assert isinstance(found, KnownCheckpoint)
            _check_head(found.head)


def records() -> list[bytes]:
    place = world().signed.place.memory
    return [(place / "signed" / "raw.okta.system_log.ndjson").read_bytes()]


def _check_head(head: proofs.Checkpoint) -> None:
    text = Head(origin=head.origin, size=head.size, root=head.root).text
    assert proofs.checkpoint_in(text, head.signer) == head


def anchored(data: bytes) -> None:
    """What an anchor returns is a checkpoint, or named as unavailable."""
    found = known_checkpoints.sighting(data, "an anchor")
    if isinstance(found, KnownCheckpoint):
        _check_head(found.head)


def lake_file(data: bytes) -> None:
    """`verify` reports any damage of a file of the lake, and never raises."""
    choices = Choices(data)
    path = choices.one_of(_lake_files())
    content = _damaged(path.read_bytes(), choices)
    with replaced(path, content), without_waiting():
        _check(world().signed.verify(full=True))
        _check(verify.verify_acts(world().signed.place))
        for report in _derived():
            _check(report)


def _damaged(content: bytes, choices: Choices) -> bytes | None:
    """Return the content spoiled as JSON where it is JSON, else edited; or none at all."""
    if choices.below(16) == 0:
        return None
    lines = content.splitlines()
    if choices.below(3) and content[:1] in (b"{", b"[") and lines:
        at = choices.below(len(lines))
        lines[at] = spoiled(json.loads(lines[at]), choices)
        return b"\n".join([*lines, b""])
    return edited(content, choices)


def _derived() -> list[TableReport]:
    place = world().signed.place
    return [
        rollups.verify_events(place, lambda: verify.tables(place)),
        rollups.verify_rollups(place, full=False),
        text_index.verify(place, full=False),
        identities.verify(place),
    ]


def state_file(data: bytes) -> None:
    """`verify` ignores or reports a damaged record of this machine, and never raises."""
    choices = Choices(data)
    signed = world().signed
    with without_waiting():
        _check(signed.verify())
    path = choices.one_of(sorted(signed.place.memory.rglob("*.*son")))
    with replaced(path, _damaged(path.read_bytes(), choices)), without_waiting():
        _check(signed.verify())
        _check(rollups.verify_rollups(signed.place, full=False))
        _check(text_index.verify(signed.place, full=False))


def _check(report: TableReport) -> None:
    """The report can be printed, and is bounded."""
    assert len(report.findings) <= _MOST_FINDINGS
    json.dumps([report.table, [found.detail for found in report.findings], report.notes])


@cache
def _lake_files() -> list[Path]:
    """Return all files of the lake but locks: the few of the signed log more than once."""
    lake = world().signed.folder / "lake"
    files = sorted(path for path in lake.rglob("*") if path.is_file() and path.suffix != ".lock")
    logs = [path for path in files if "integrity" in path.parts]
    return [*files, *logs]


def _one(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found
