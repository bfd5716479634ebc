"""Targets for the auditor's program: it proves something, or says why not, and never fails."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pipelines.integrity.verifier import audit, proofs
from pipelines.integrity.verifier.proofs import Invalid
from tests.fuzz.spoiling import Choices, edited, spoiled
from tests.fuzz.world import world

_MOST_LINES = 100


def any_file(data: bytes) -> None:
    """Any file is Invalid, or is a proof, a pack or a certificate."""
    _check_file(data)


def any_files() -> list[bytes]:
    certificate = world().note(f"{audit.CERTIFICATE}\nokta/system_log complete\n")
    documents = (world().proof, world().growth)
    return [*(json.dumps(each).encode() for each in documents), certificate, zipped(world().pack)]


def _check_file(content: bytes) -> list[str]:
    path = world().signed.folder / "given"
    path.write_bytes(content)
    found: list[str] = []
    with suppress(Invalid):
        found = audit.check_file(str(path), world().vkeys)
    with suppress(Invalid):
        audit.keys_in(str(path))
    assert len(found) <= _MOST_LINES
    for line in found:
        assert audit._ascii(line).isprintable()
    return found


def proof(data: bytes) -> None:
    """A proof with any change of a value is Invalid: it has one spelling."""
    _check_document(world().proof, data)


def growth(data: bytes) -> None:
    """A proof of growth with any change of a value is Invalid."""
    _check_document(world().growth, data)


def _check_document(document: Mapping[str, Any], data: bytes) -> None:
    content = spoiled(document, Choices(data))
    if _check_file(content):
        assert json.loads(content) == document


def pack(data: bytes) -> None:
    """A pack signed by the operator, with any file spoiled, is Invalid or read to its end."""
    choices = Choices(data)
    files = dict(world().pack)
    name = choices.one_of(sorted(set(files) - {"manifest.txt"}))
    files[name] = _spoiled_lines(files[name], choices)
    if choices.below(8):
        files["manifest.txt"] = manifest(files)
    else:
        files["manifest.txt"] = edited(files["manifest.txt"], choices)
    _check_file(zipped(files))


def _spoiled_lines(content: bytes, choices: Choices) -> bytes:
    lines = content.splitlines()
    if not lines or lines[0][:1] not in (b"{", b"["):
        return edited(content, choices)
    at = choices.below(len(lines))
    lines[at] = spoiled(json.loads(lines[at]), choices)
    return b"\n".join([*lines, b""])


def manifest(files: Mapping[str, bytes]) -> bytes:
    """Return the signed manifest of these files."""
    named = sorted(name for name in files if name != "manifest.txt")
    lines = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}" for name in named]
    return world().note("\n".join([audit.MANIFEST, *lines, ""]))


def zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def archive(data: bytes) -> None:
    """A damaged zip file is Invalid."""
    _check_file(edited(zipped(world().pack), Choices(data)))


def time(data: bytes) -> None:
    """A time is Invalid, or is printed again the same."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(Invalid):
        moment = proofs.microseconds(text)
        at = proofs._EPOCH + timedelta(microseconds=moment)
        assert at.isoformat(timespec="microseconds").replace("+00:00", "Z") == text


def times() -> list[bytes]:
    texts = ("2026-03-01T12:00:00.000000Z", "0001-01-01T00:00:00.000000Z", "2026-03-01T12:00:00Z")
    return [text.encode() for text in texts]


def paths(data: bytes) -> None:
    """Proofs of inclusion and consistency of any shape are Invalid, or lead to a root."""
    choices = Choices(data)
    index, size, more = (choices.below(65_536) for _ in range(3))
    path = [bytes([choices.below(256)]) * 32 for _ in range(choices.below(40))]
    with suppress(Invalid):
        assert len(proofs.included(b"\0" * 32, index, size, path)) == 32
    old, new = (
        proofs.Checkpoint(origin="x", size=each, root=b"\0" * 32, signer="")
        for each in (size, more)
    )
    with suppress(Invalid):
        proofs.check_consistency(old, new, path)
        assert old == new or size == 0  # else a root of zeros would have been found
