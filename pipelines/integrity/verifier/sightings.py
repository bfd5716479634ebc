"""Where checkpoints of a lake were seen outside it: what the signer remembers, and the anchors."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipelines.integrity.verifier.audit import Checkpoint, Invalid, checkpoint_in
from pipelines.integrity.verifier.shelf import Shelf
from pipelines.settings import Anchor

_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A checkpoint, and who has seen it."""

    head: Checkpoint
    where: str
    note: str | None
    """What is to be signed by a known key if it is to count; None: it counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """A place that could not be asked, or that says something no known key has signed."""

    where: str
    reason: str


def remembered(place: Path, table: str) -> list[Sighting]:
    """What the signing machine remembers of the last checkpoint of `table`."""
    path = place / "signed" / f"{table.replace('/', '.')}.ndjson"
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            held = json.loads(line)
            root = base64.b64decode(held["root"])
            head = Checkpoint(origin=held["origin"], size=held["size"], root=root, signer="memory")
        except (ValueError, KeyError):
            continue
        return [Sighting(head=head, where="this machine's memory of what it signed", note=None)]
    return []


def anchored(anchor: Anchor, table: str, origin: str | None) -> list[Sighting | Unseen]:
    """The checkpoints of `table` that an anchor holds; their signatures are still to be checked."""
    seen: list[Sighting | Unseen] = []
    try:
        for path, note in _notes(anchor, table, origin):
            seen.append(sighting(note, f"{anchor.name}/{path}"))
    except (OSError, httpx.HTTPError, subprocess.SubprocessError) as error:
        seen.append(Unseen(where=anchor.name, reason=f"{type(error).__name__}: {error}"))
    return seen


def sighting(note: bytes, where: str) -> Sighting | Unseen:
    try:
        text = note.decode()
        return Sighting(
            head=checkpoint_in(text.partition("\n\n")[0] + "\n"), where=where, note=text
        )
    except (Invalid, ValueError) as error:
        return Unseen(where=where, reason=str(error))


def _notes(anchor: Anchor, table: str, origin: str | None) -> Iterator[tuple[str, bytes]]:
    """(path, note) of each checkpoint; a path is <name>/<integration>/<stream>/<id>/<size>."""
    part = f"/{table.removeprefix('raw/')}/"
    if anchor.git:
        yield from _committed(anchor.git.expanduser(), part)
    elif anchor.url and origin:
        yield from _fetched(anchor, origin)
    elif anchor.directory or anchor.bucket:
        options = {key: secret.get_secret_value() for key, secret in anchor.storage_options.items()}
        root = str(anchor.directory.expanduser()) if anchor.directory else str(anchor.bucket)
        shelf = Shelf(root=root, options=options)
        if anchor.directory and not Path(root).is_dir():
            raise FileNotFoundError(root)
        for path in shelf.files():
            if part in f"/{path}":
                yield path, shelf.read(path) or b""


def _committed(clone: Path, part: str) -> Iterator[tuple[str, bytes]]:
    """What any commit ever held, so that taking a file away again hides nothing."""
    git = ("git", "-C", str(clone))
    listed = subprocess.run(
        (*git, "log", "--all", "--diff-filter=AM", "--name-only", "--format=%x00%H"),
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout.decode()
    for commit in listed.split("\0")[1:]:
        digest, *names = commit.split("\n")
        for name in filter(None, names):
            if part in f"/{name}":
                blob = (*git, "show", f"{digest}:{name}")
                yield name, subprocess.run(blob, check=True, capture_output=True).stdout


def _fetched(anchor: Anchor, origin: str) -> Iterator[tuple[str, bytes]]:
    token = anchor.token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    with httpx.Client(timeout=_PATIENCE, headers=headers) as client:
        answer = client.get(f"{anchor.url}/{origin}/latest")
        if answer.status_code != httpx.codes.NOT_FOUND:
            yield f"{origin}/latest", answer.raise_for_status().content
