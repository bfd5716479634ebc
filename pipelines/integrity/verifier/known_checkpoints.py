"""Reads checkpoints kept outside the lake: in this machine's local record and at the anchors."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import httpx

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.integrity.verifier.proofs import Checkpoint, Invalid, checkpoint_in, parsed, text_of
from pipelines.settings import Anchor, NetworkSettings, network

_TIMEOUT = 10.0
_MAX_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCheckpoint:
    """A checkpoint found outside the lake, and where."""

    head: Checkpoint
    where: str
    note: str | None
    """The note, which counts only if signed by a trusted key; None: its source is trusted."""
    cosigned_at: int = 0
    """When a witness cosigned it, in seconds since 1970; 0: no witness did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A place that could not be read, or whose content is not a checkpoint."""

    where: str
    reason: str


def remembered(place: Path, table: str) -> list[KnownCheckpoint]:
    """Return the last checkpoint of `table` in the signing machine's record: one or none."""
    path = place / "signed" / f"{table.replace('/', '.')}.ndjson"
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            held = parsed(line)
            if type(held["size"]) is not int:
                continue
            text = f"{held['origin']}\n{held['size']}\n{held['root']}\n"
            head = checkpoint_in(text, signer="memory")
        except (Invalid, LookupError, TypeError):
            continue  # a power cut may truncate a line
        return [
            KnownCheckpoint(
                head=head, where="this machine's record of signed checkpoints", note=None
            )
        ]
    return []


def logs(place: Path, name: str, anchors: Iterable[Anchor]) -> set[str]:
    """Return the logs, such as okta/system_log, known outside the lake; URL anchors list none."""
    files = (file.stem.split(".") for file in place.glob("signed/*.ndjson"))
    found = {"/".join(parts[1:]) for parts in files if len(parts) > 2}
    for anchor in anchors:
        with suppress(LakeError, OSError, subprocess.SubprocessError):
            found |= (
                set(_shelf(anchor).pairs(name)) if _can_list(anchor) else _git_logs(anchor, name)
            )
    return found


def anchored(
    anchor: Anchor,
    folders: Iterable[str],
    origin: str | None,
    first: int = 0,
    way: NetworkSettings = NetworkSettings(),  # noqa: B008 it is frozen
) -> list[KnownCheckpoint | Unavailable]:
    """Return the checkpoints an anchor has in `folders`, each of the form <name>/<log>.

    For the log `origin`, these are all checkpoints of `first` rows or more; for any other log only
    the newest, which is enough to show that it existed. Signatures are not checked here.
    """
    seen: list[KnownCheckpoint | Unavailable] = []
    try:
        for path, note in _notes(anchor, set(folders), origin, first, way):
            seen.append(sighting(note, f"{anchor.name}/{path}"))
    except (AuditlakeError, OSError, httpx.HTTPError, subprocess.SubprocessError) as error:
        seen.append(Unavailable(where=anchor.name, reason=f"{type(error).__name__}: {error}"))
    return seen


def sighting(note: bytes, where: str) -> KnownCheckpoint | Unavailable:
    """Parse a note without checking its signatures; return Unseen if it is not a checkpoint."""
    try:
        text = text_of(note)
        return KnownCheckpoint(
            head=checkpoint_in(text.partition("\n\n")[0] + "\n"), where=where, note=text
        )
    except Invalid as error:
        return Unavailable(where=where, reason=str(error))


def _notes(
    anchor: Anchor, folders: set[str], origin: str | None, first: int, way: NetworkSettings
) -> Iterator[tuple[str, bytes]]:
    """Yield (path, note); a path is <name>/<integration>/<stream>/<id>/<size>."""
    if anchor.url:
        yield from _fetch_latest(anchor, origin, way) if origin else ()
    elif anchor.git:
        clone = anchor.git.expanduser()
        held = [(path, blob) for path, blob in _git_files(clone) if _folder(path) in folders]
        wanted = set(_select([path for path, _ in held], origin, first))
        yield from _read_blobs(clone, [each for each in held if each[0] in wanted])
    else:
        shelf = _shelf(anchor)
        paths = [path for folder in sorted(folders) for path in shelf.files(folder)]
        for path in _select(paths, origin, first):
            yield path, shelf.read(path) or b""


def _select(paths: Iterable[str], origin: str | None, first: int) -> list[str]:
    """Return the paths of `origin` with at least `first` rows, and the newest of other logs."""
    found, others = [], {}
    for path in sorted(paths):
        log, _, size = path.rpartition("/")
        if log != origin:
            others[log] = path
        elif not re.fullmatch("[0-9]{1,20}", size) or int(size) >= first:
            found.append(path)
    return [*found, *others.values()]


def _folder(path: str) -> str:
    return path.rsplit("/", 2)[0]


def _can_list(anchor: Anchor) -> bool:
    return anchor.directory is not None or anchor.bucket is not None


def _shelf(anchor: Anchor) -> LogFiles:
    options = {key: secret.get_secret_value() for key, secret in anchor.storage_options.items()}
    root = str(anchor.directory.expanduser()) if anchor.directory else str(anchor.bucket)
    if anchor.directory and not Path(root).is_dir():
        raise FileNotFoundError(root)
    return LogFiles(root=root, options=options)


def _git_logs(anchor: Anchor, name: str) -> set[str]:
    """Return the logs that have checkpoints in a git anchor."""
    paths = _git_files(anchor.git.expanduser()) if anchor.git else ()
    folders = (_folder(path) for path, _ in paths)
    return {folder[len(name) + 1 :] for folder in folders if folder.startswith(f"{name}/")}


def _git_files(clone: Path) -> Sequence[tuple[str, str]]:
    """Return (path, blob) of every file any commit added, including files deleted since."""
    return _history(clone, _git(clone, "rev-parse", "--all"))


# Cached per state of the refs: many tables are looked up in the same repository.
@lru_cache(maxsize=4)
def _history(clone: Path, _refs: bytes) -> Sequence[tuple[str, str]]:
    log = ("log", "--all", "--diff-filter=AM", "--raw", "--no-abbrev", "--no-renames", "--format=")
    lines = (line.split("\t", 1) for line in _git(clone, *log).decode().splitlines() if line)
    return [(path, change.split()[3]) for change, path in lines]


def _read_blobs(clone: Path, wanted: Sequence[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    ids = "".join(f"{blob}\n" for _, blob in wanted).encode()
    output, at = _git(clone, "cat-file", "--batch", stdin=ids), 0
    for path, _ in wanted:
        # Per blob: a line that ends in its size, the content, a newline.
        begin = output.index(b"\n", at) + 1
        at = begin + int(output[at:begin].split()[-1])
        yield path, output[begin:at]
        at += 1


def _git(clone: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    command = ("git", "-C", str(clone), *arguments)
    return subprocess.run(command, check=True, capture_output=True, timeout=60, input=stdin).stdout


def _fetch_latest(anchor: Anchor, origin: str, way: NetworkSettings) -> Iterator[tuple[str, bytes]]:
    token, url = anchor.token, f"{anchor.url}/{origin}/latest"
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    options = network.options(way, url)
    with (
        httpx.Client(timeout=_TIMEOUT, headers=headers, **options) as client,
        client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        # 404: this anchor has not received a checkpoint of the log yet.
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        answer.raise_for_status()
        note = bytearray()
        for part in answer.iter_raw():
            note += part
            if len(note) > _MAX_BYTES:
                raise LakeError("its answer is too large for a checkpoint")
        yield f"{origin}/latest", bytes(note)
