"""Places outside the lake that are told each checkpoint, and asked again until they have it.

What is still to be told waits in an outbox beside the keys, so a kill or an outage loses nothing.
A place never gets the same name twice with another content: there, a checkpoint stands for good.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import files, last_signed
from pipelines.integrity.note import Head
from pipelines.settings import Anchor, IntegritySettings

_PATIENCE = 10.0
_PATH = "# "  # the first line of a waiting letter says where it goes

Letters = Sequence[tuple[str, bytes]]
"""(path, note) in the order of signing; a path is <origin>/<size, 20 digits>."""

# One at a time; at its end, a process waits for what it has begun.
_postman = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anchors")


def post(place: Path, settings: IntegritySettings, head: Head, text: bytes) -> None:
    """Put a checkpoint where every anchor's waiting letters are."""
    path = f"{head.origin}/{head.size:020}"
    name = f"{head.size:020}.{hashlib.sha256(head.origin.encode()).hexdigest()[:16]}"
    for anchor in settings.anchors:
        last_signed.replace(_outbox(place, anchor) / name, f"{_PATH}{path}\n".encode() + text)


def deliver_soon(place: Path, settings: IntegritySettings) -> None:
    """Deliver what waits, in the background."""
    if any(waiting(place, anchor) for anchor in settings.anchors):
        _postman.submit(deliver, place, settings)


def deliver(place: Path, settings: IntegritySettings) -> list[str]:
    """Deliver what waits; a line for each anchor that could not take it, which is asked again."""
    faults = []
    for anchor in settings.anchors:
        letters = waiting(place, anchor)
        try:
            if letters:
                _courier(anchor)([_opened(letter) for letter in letters])
        except (AuditlakeError, OSError, httpx.HTTPError, subprocess.SubprocessError) as error:
            faults.append(f"{anchor.name}: {type(error).__name__}: {error}: it is asked again")
            logging.getLogger("auditlake").warning("anchor %s", faults[-1])
            continue
        for letter in letters:
            letter.unlink(missing_ok=True)
    return faults


def waiting(place: Path, anchor: Anchor) -> list[Path]:
    """The letters an anchor has still to get, oldest first."""
    outbox = _outbox(place, anchor)
    if not outbox.is_dir():
        return []
    return sorted(path for path in outbox.iterdir() if path.name[0] != ".")


def _courier(anchor: Anchor) -> Callable[[Letters], None]:
    if anchor.directory:
        return partial(_to_directory, anchor.directory.expanduser())
    if anchor.git:
        return partial(_to_git, anchor.git.expanduser())
    if anchor.url:
        return partial(_to_url, anchor.url, _token(anchor))
    options = {key: value.get_secret_value() for key, value in anchor.storage_options.items()}
    return partial(_to_bucket, str(anchor.bucket), options)


def _to_directory(root: Path, letters: Letters) -> None:
    if not root.is_dir():
        raise LakeError("the folder is not there: mount it")
    for path, text in letters:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            draft = target.with_name(f".{target.name}")
            draft.write_bytes(text)
            draft.rename(target)
        _same(path, target.read_bytes(), text)


def _to_git(clone: Path, letters: Letters) -> None:
    _to_directory(clone, letters)
    git = ("git", "-C", str(clone))
    run = partial(subprocess.run, check=True, capture_output=True, timeout=60)
    run((*git, "add", "--", *(path for path, _ in letters)))
    if subprocess.run((*git, "diff", "--cached", "--quiet"), check=False).returncode:
        run((*git, "commit", "-q", "-m", f"{len(letters)} checkpoints of {letters[-1][0]}"))
    upstream = subprocess.run(
        (*git, "rev-parse", "@{upstream}"), check=False, capture_output=True, timeout=60
    )
    if upstream.returncode == 0:
        run((*git, "push", "-q"))


def _to_url(url: str, headers: dict[str, str], letters: Letters) -> None:
    with httpx.Client(timeout=_PATIENCE, headers=headers) as client:
        for path, text in letters:
            answer = client.put(f"{url}/{path}", content=text, headers={"If-None-Match": "*"})
            if answer.status_code == httpx.codes.PRECONDITION_FAILED:
                _same(path, client.get(f"{url}/{path}").raise_for_status().content, text)
            else:
                answer.raise_for_status()
        newest = {path.rpartition("/")[0]: text for path, text in letters}
        for origin, text in newest.items():
            client.put(f"{url}/{origin}/latest", content=text).raise_for_status()


def _to_bucket(url: str, options: dict[str, str], letters: Letters) -> None:
    folder = files.bucket(url, options)
    for path, text in letters:
        held = folder.get(path)
        if held is None:
            folder.put(path, text)
        _same(path, held or text, text)


def _same(path: str, held: bytes, text: bytes) -> None:
    """The place may hold other signatures of the same head, never another head."""
    if held.partition(b"\n\n")[0] != text.partition(b"\n\n")[0]:
        raise LakeError(f"{path} stands there with another root: run `auditlake verify`")


def _token(anchor: Anchor) -> dict[str, str]:
    token = anchor.token
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}


def _opened(letter: Path) -> tuple[str, bytes]:
    path, _, text = letter.read_bytes().partition(b"\n")
    return path.decode().removeprefix(_PATH), text


def _outbox(place: Path, anchor: Anchor) -> Path:
    return place / "outbox" / hashlib.sha256(anchor.name.encode()).hexdigest()[:16]
