"""Anchors: places outside the lake that receive every checkpoint, with retries until delivered.

Pending checkpoints wait in an outbox next to the keys, so neither a kill nor an outage loses any.
A checkpoint at an anchor is never overwritten with different content.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from pipelines import disk
from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import files
from pipelines.integrity.note import Head
from pipelines.settings import Anchor, IntegritySettings, NetworkSettings, network

_TIMEOUT = 10.0
_PATH = "# "  # the first line of an outbox file holds the destination path

Checkpoints = Sequence[tuple[str, bytes]]
"""(path, note) pairs in the order of signing; a path is <origin>/<size, 20 digits>."""

# One delivery at a time; on exit, the process waits for deliveries that are under way.
_background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anchors")


def post(place: Path, settings: IntegritySettings, head: Head, text: bytes) -> None:
    """Add a checkpoint to the outbox of every anchor."""
    path = f"{head.origin}/{head.size:020}"
    name = f"{head.size:020}.{hashlib.sha256(head.origin.encode()).hexdigest()[:16]}"
    for anchor in settings.anchors:
        outbox = _outbox(place, anchor)
        outbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        pending = f"{_PATH}{path}\n".encode() + text
        disk.write_atomically(outbox / name, pending, durable=False, mode=disk.READABLE)


def deliver_soon(place: Path, settings: IntegritySettings) -> None:
    """Deliver pending checkpoints in the background."""
    if any(waiting(place, anchor) for anchor in settings.anchors):
        _background.submit(deliver, place, settings)


def deliver(place: Path, settings: IntegritySettings) -> list[str]:
    """Deliver pending checkpoints to all anchors.

    Return one line per anchor that failed; its checkpoints stay in the outbox for the next try.
    """
    faults = []
    for anchor in settings.anchors:
        files = waiting(place, anchor)
        try:
            if pending := list(_pending(files)):
                _sender(anchor, settings.network)(pending)
        except (AuditlakeError, OSError, httpx.HTTPError, subprocess.SubprocessError) as error:
            faults.append(f"{anchor.name}: {type(error).__name__}: {error}; will be retried")
            logging.getLogger("auditlake").warning("anchor %s", faults[-1])
            continue
        for file in files:
            file.unlink(missing_ok=True)
    return faults


def _pending(files: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    for file in files:
        with suppress(FileNotFoundError):  # another thread or process has delivered it meanwhile
            yield _read_file(file)


def waiting(place: Path, anchor: Anchor) -> list[Path]:
    """Return the outbox files of an anchor, oldest first."""
    outbox = _outbox(place, anchor)
    if not outbox.is_dir():
        return []
    return sorted(path for path in outbox.iterdir() if path.name[0] != ".")


def _sender(anchor: Anchor, way: NetworkSettings) -> Callable[[Checkpoints], None]:
    if anchor.directory:
        return partial(_to_directory, anchor.directory.expanduser())
    if anchor.git:
        return partial(_to_git, anchor.git.expanduser())
    if anchor.url:
        return partial(_to_url, anchor.url, _token(anchor), way)
    options = {key: value.get_secret_value() for key, value in anchor.storage_options.items()}
    return partial(_to_bucket, str(anchor.bucket), options)


def _to_directory(root: Path, checkpoints: Checkpoints) -> None:
    if not root.is_dir():
        raise LakeError("the folder does not exist: mount it")
    for path, text in checkpoints:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():  # a WORM share refuses a second write
            disk.write_atomically(target, text, durable=False, mode=disk.READABLE)
        _check_same_head(path, target.read_bytes(), text)


def _to_git(clone: Path, checkpoints: Checkpoints) -> None:
    _to_directory(clone, checkpoints)
    git = ("git", "-C", str(clone))
    run = partial(subprocess.run, check=True, capture_output=True, timeout=60)
    run((*git, "add", "--", *(path for path, _ in checkpoints)))
    # After a failed push everything may be committed already.
    if subprocess.run((*git, "diff", "--cached", "--quiet"), check=False).returncode:
        run((*git, "commit", "-q", "-m", f"{len(checkpoints)} checkpoints of {checkpoints[-1][0]}"))
    upstream = subprocess.run(
        (*git, "rev-parse", "@{upstream}"), check=False, capture_output=True, timeout=60
    )
    if upstream.returncode == 0:
        run((*git, "push", "-q"))


def _to_url(
    url: str, headers: dict[str, str], way: NetworkSettings, checkpoints: Checkpoints
) -> None:
    options = network.options(way, url)
    with httpx.Client(timeout=_TIMEOUT, headers=headers, **options) as client:
        for path, text in checkpoints:
            # Create only: 412 means an earlier try, whose response was lost, has succeeded.
            answer = client.put(f"{url}/{path}", content=text, headers={"If-None-Match": "*"})
            if answer.status_code == httpx.codes.PRECONDITION_FAILED:
                _check_same_head(path, client.get(f"{url}/{path}").raise_for_status().content, text)
            else:
                answer.raise_for_status()
        newest = {path.rpartition("/")[0]: text for path, text in checkpoints}
        for origin, text in newest.items():
            client.put(f"{url}/{origin}/latest", content=text).raise_for_status()


def _to_bucket(url: str, options: dict[str, str], checkpoints: Checkpoints) -> None:
    folder = files.bucket(url, options)
    for path, text in checkpoints:
        held = folder.get(path)
        if held is None:
            folder.put(path, text)
        _check_same_head(path, held or text, text)


def _check_same_head(path: str, held: bytes, text: bytes) -> None:
    """Raise LakeError unless both notes have the same head; their signatures may differ."""
    if held.partition(b"\n\n")[0] != text.partition(b"\n\n")[0]:
        raise LakeError(f"{path} is already there with a different root: run `auditlake verify`")


def _token(anchor: Anchor) -> dict[str, str]:
    token = anchor.token
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}


def _read_file(file: Path) -> tuple[str, bytes]:
    path, _, text = file.read_bytes().partition(b"\n")
    return path.decode().removeprefix(_PATH), text


def _outbox(place: Path, anchor: Anchor) -> Path:
    return place / "outbox" / hashlib.sha256(anchor.name.encode()).hexdigest()[:16]
