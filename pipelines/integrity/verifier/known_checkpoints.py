"""Where checkpoints of a lake were seen outside it: what the signer remembers, and the anchors."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import httpx

from pipelines.integrity.verifier.audit import Checkpoint, Invalid, checkpoint_in
from pipelines.integrity.verifier.log_reader import Shelf
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


def logs(place: Path, name: str, anchors: Iterable[Anchor]) -> set[str]:
    """Logs such as okta/system_log that are known outside the lake; an address lists none."""
    files = (file.stem.split(".") for file in place.glob("signed/*.ndjson"))
    found = {"/".join(parts[1:]) for parts in files if len(parts) > 2}
    for anchor in anchors:
        with suppress(OSError, subprocess.SubprocessError):
            found |= set(_shelf(anchor).pairs(name)) if _listed(anchor) else _pairs(anchor, name)
    return found


def anchored(
    anchor: Anchor, folders: Iterable[str], origin: str | None, first: int = 0
) -> list[Sighting | Unseen]:
    """The checkpoints that an anchor holds in its folders of a log, each called <name>/<log>.

    Of the log `origin` those of `first` rows or more; of others the newest, since one is enough to
    know that they were there. Their signatures are still to be checked.
    """
    seen: list[Sighting | Unseen] = []
    try:
        for path, note in _notes(anchor, set(folders), origin, first):
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


def _notes(
    anchor: Anchor, folders: set[str], origin: str | None, first: int
) -> Iterator[tuple[str, bytes]]:
    """(path, note) of each checkpoint; a path is <name>/<integration>/<stream>/<id>/<size>."""
    if anchor.url:
        yield from _fetched(anchor, origin) if origin else ()
    elif anchor.git:
        clone = anchor.git.expanduser()
        held = [(path, blob) for path, blob in _committed(clone) if _folder(path) in folders]
        wanted = set(_worth_reading([path for path, _ in held], origin, first))
        yield from _blobs(clone, [each for each in held if each[0] in wanted])
    else:
        shelf = _shelf(anchor)
        paths = [path for folder in sorted(folders) for path in shelf.files(folder)]
        for path in _worth_reading(paths, origin, first):
            yield path, shelf.read(path) or b""


def _worth_reading(paths: Iterable[str], origin: str | None, first: int) -> list[str]:
    """By its name: the checkpoints of `origin` from `first` on, and the newest of other logs."""
    found, others = [], {}
    for path in sorted(paths):
        log, _, size = path.rpartition("/")
        if log != origin:
            others[log] = path
        elif not size.isdecimal() or int(size) >= first:
            found.append(path)
    return [*found, *others.values()]


def _folder(path: str) -> str:
    return path.rsplit("/", 2)[0]


def _listed(anchor: Anchor) -> bool:
    return anchor.directory is not None or anchor.bucket is not None


def _shelf(anchor: Anchor) -> Shelf:
    options = {key: secret.get_secret_value() for key, secret in anchor.storage_options.items()}
    root = str(anchor.directory.expanduser()) if anchor.directory else str(anchor.bucket)
    if anchor.directory and not Path(root).is_dir():
        raise FileNotFoundError(root)
    return Shelf(root=root, options=options)


def _pairs(anchor: Anchor, name: str) -> set[str]:
    """The logs a repository speaks of."""
    paths = _committed(anchor.git.expanduser()) if anchor.git else ()
    folders = (_folder(path) for path, _ in paths)
    return {folder[len(name) + 1 :] for folder in folders if folder.startswith(f"{name}/")}


def _committed(clone: Path) -> Sequence[tuple[str, str]]:
    """(path, blob) of what any commit ever held, so that taking a file away again hides nothing."""
    return _history(clone, _git(clone, "rev-parse", "--all"))


@lru_cache(maxsize=4)
def _history(clone: Path, _refs: bytes) -> Sequence[tuple[str, str]]:
    log = ("log", "--all", "--diff-filter=AM", "--raw", "--no-abbrev", "--no-renames", "--format=")
    lines = (line.split("\t", 1) for line in _git(clone, *log).decode().splitlines() if line)
    return [(path, change.split()[3]) for change, path in lines]


def _blobs(clone: Path, wanted: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    asked = "".join(f"{blob}\n" for _, blob in wanted).encode()
    answer, at = _git(clone, "cat-file", "--batch", given=asked), 0
    for path, _ in wanted:
        begin = answer.index(b"\n", at) + 1
        at = begin + int(answer[at:begin].split()[-1])
        yield path, answer[begin:at]
        at += 1


def _git(clone: Path, *arguments: str, given: bytes = b"") -> bytes:
    command = ("git", "-C", str(clone), *arguments)
    return subprocess.run(command, check=True, capture_output=True, timeout=60, input=given).stdout


def _fetched(anchor: Anchor, origin: str) -> Iterator[tuple[str, bytes]]:
    token = anchor.token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    with httpx.Client(timeout=_PATIENCE, headers=headers) as client:
        answer = client.get(f"{anchor.url}/{origin}/latest")
        if answer.status_code != httpx.codes.NOT_FOUND:
            yield f"{origin}/latest", answer.raise_for_status().content
