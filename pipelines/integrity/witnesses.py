"""Submits the checkpoints of the lake to the configured witnesses, which cosign them.

A witness cosigns a checkpoint only if it extends all it has seen of the log, so nobody can show two
readers different logs under its name. The lake records each submission: the newest checkpoint
a witness has cosigned is stored next to the log's own, so neither a kill nor an outage loses any,
and a witness that is configured later starts with the present one. https://c2sp.org/tlog-witness
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import httpx

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import cosignatures, files, keys, merkle, note, tiles
from pipelines.integrity.files import Folder
from pipelines.integrity.note import Head
from pipelines.lake import findings
from pipelines.lake.tables import Lake
from pipelines.settings import IntegritySettings, NetworkSettings, Witness, network

ACTS = "acts"
_ALONE = (ACTS, findings.LOG.app)
_SECONDS = 10.0
"""The time for one request, from the name's resolution to the last byte."""
_MAX_BYTES = 16_384
_TRIES = 3
_PAUSE = 60.0
_LATE = timedelta(hours=1)
_MOMENT = "%Y-%m-%d %H:%M:%S UTC"
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")
_log = logging.getLogger(__name__)

# One at a time; on exit, the process waits for the requests that are under way.
_background = ThreadPoolExecutor(max_workers=1, thread_name_prefix="witnesses")
_pending: dict[tuple[str, str], tuple[Lake, IntegritySettings]] = {}
_paused: dict[str, float] = {}
"""Key of a witness that did not answer -> the monotonic time of the next try in the background."""
_lock = threading.Lock()


class Unreachable(AuditlakeError):
    """A witness did not answer in time and within limits; a later retry may succeed."""


class Answer(NamedTuple):
    """The response of a witness."""

    status: int
    media: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checkpoint:
    """The checkpoint of a log that is to be cosigned."""

    folder: Folder
    head: Head
    signatures: str
    """The signature lines of the log itself."""


def submit_soon(lake: Lake, settings: IntegritySettings, name: str) -> None:
    """Submit the checkpoint of the log `name` to the witnesses, in the background.

    Never raises: a round does not depend on a witness.
    """
    if not settings.witnesses:
        return
    with _lock:
        idle = not _pending
        _pending[lake.root, name] = lake, settings
    if idle:
        _background.submit(_submit_pending)


def submit(lake: Lake, settings: IntegritySettings, names: Iterable[str]) -> list[str]:
    """Submit the checkpoints of these logs to every witness that has not cosigned them.

    Return one line per failure; these are retried with the next call.
    """
    _paused.clear()
    return _background.submit(_submit, lake, settings, list(names)).result()


def logs(lake: Lake) -> list[str]:
    """Return the names of all signed logs in the lake."""
    root = files.of(lake, "integrity")
    names = root.names("")
    pairs = (f"{one}/{two}" for one in names if one not in _ALONE for two in root.names(one))
    return [ACTS, *(one for one in names if one == findings.LOG.app), *pairs]


def path(witness: Witness) -> str:
    """Return the path, in the folder of a log, of the newest checkpoint a witness cosigned."""
    return f"cosignatures/{hashlib.sha256(witness.key.encode()).hexdigest()[:16]}"


def stored(folder: Folder, settings: IntegritySettings) -> list[str]:
    """Return the newest checkpoint that each witness has cosigned of a log, as signed notes."""
    return [found[0] for each in settings.witnesses if (found := _read(folder, each))]


def with_cosignatures(folder: Folder, settings: IntegritySettings, checkpoint: str) -> str:
    """Return a signed checkpoint with the cosignatures there are of it."""
    text = checkpoint.rpartition("\n\n")[0]
    found = (_read(folder, each) for each in settings.witnesses)
    lines = [each[1].line for each in found if each and each[0].rpartition("\n\n")[0] == text]
    return checkpoint + "".join(f"{line}\n" for line in lines)


def health(lake: Lake, settings: IntegritySettings, witness: Witness, now: datetime) -> str:
    """Return how far a witness has cosigned the logs of the lake, as the witness itself shows.

    Raises AuditlakeError, with the next step, if it does not answer, if its key is not the
    configured one, or if logs have grown that it has not cosigned for an hour.
    """
    signed = list(_signed(lake, keys.trusted(settings)))
    if not signed:
        return "nothing is signed yet"
    seen = [
        (found[1].at, head.origin, found[0].startswith(f"{head.text}\n"))
        for folder, head in signed
        if (found := _read(folder, witness))
    ]
    at, origin, _ = max(seen, default=(0, signed[0][1].origin, False))
    last = datetime.fromtimestamp(max(at, _shown_at(witness, origin, settings.network)), UTC)
    done, of = sum(whole for *_, whole in seen), f"of {len(signed)} logs"
    if done < len(signed) and now - last > _LATE:
        raise LakeError(
            f"it has cosigned nothing since {last:{_MOMENT}}, and {len(signed) - done} {of} have "
            "grown: the next round submits them again and logs the reason"
        )
    return f"{done} {of} cosigned as they are, the newest at {last:{_MOMENT}}"


def _signed(lake: Lake, trusted: list[str]) -> Iterator[tuple[Folder, Head]]:
    for name in logs(lake):
        folder = files.of(lake, f"integrity/{name}")
        if head := note.opened(folder.get("checkpoint") or b"", trusted):
            yield folder, head


def _shown_at(witness: Witness, origin: str, way: NetworkSettings) -> int:
    """Return when a witness made the cosignature of a log that it shows."""
    log = hashlib.sha256(origin.encode()).hexdigest()
    try:
        answer = asyncio.run(_request("GET", f"{witness.url}/{log}/checkpoint", way))
    except Unreachable as error:
        reason = str(error).partition(":")[0]
        raise Unreachable(f"it does not answer ({reason}): check its url and [network]") from None
    if answer.status == httpx.codes.NOT_FOUND:
        raise LakeError(f"it does not know the log {origin}: its operator has to accept it")
    if answer.status != httpx.codes.OK:
        raise LakeError(f"it answered {answer.status}")
    text, _, lines = answer.body.decode("utf-8", "replace").rpartition("\n\n")
    found = cosignatures.find(lines, f"{text}\n", witness.key)
    if found is None or not text.startswith(f"{origin}\n"):
        raise LakeError(
            "its answer has no cosignature of the configured key: correct integrity.witnesses.key"
        )
    return found.at


def _submit_pending() -> None:
    with _lock:
        due = dict(_pending)
        _pending.clear()
    for (_, name), (lake, settings) in due.items():
        try:
            _submit(lake, settings, [name])
        except Exception:  # a thread of its own, in which nobody else would see the error
            _log.warning("witnesses of %s: unexpected error", name, exc_info=True)


def _submit(lake: Lake, settings: IntegritySettings, names: Iterable[str]) -> list[str]:
    trusted, faults = keys.trusted(settings), []
    for witness in settings.witnesses:
        if time.monotonic() < _paused.get(witness.key, 0.0):
            continue
        for name in names:
            try:
                folder = files.of(lake, f"integrity/{name}")
                _cosign(folder, witness, trusted, settings.network)
            except Unreachable as error:
                # The other logs would wait as long; the next round or hour retries.
                _paused[witness.key] = time.monotonic() + _PAUSE
                faults.append(f"{witness.name}: {error}")
                break
            except (AuditlakeError, OSError) as error:
                faults.append(f"{witness.name}: {name}: {error}")
    for fault in faults:
        _log.warning("witness %s", fault)
    return faults


def _cosign(folder: Folder, witness: Witness, trusted: list[str], way: NetworkSettings) -> None:
    """Obtain and store the cosignature of the checkpoint in `folder`, unless it is there."""
    text = folder.get("checkpoint") or b""
    head = note.opened(text, trusted)
    if head is None:
        return  # nothing is signed yet, or `verify` reports it
    held = _held(folder, witness, head.origin)
    if held and held.size >= head.size:
        return
    signatures = text.decode().rpartition("\n\n")[2]
    wanted = _Checkpoint(folder=folder, head=head, signatures=signatures)
    found = _exchange(wanted, witness, held.size if held else 0, way)
    folder.put(path(witness), f"{head.text}\n{signatures}{found.line}\n".encode())


def _held(folder: Folder, witness: Witness, origin: str) -> Head | None:
    """Return the newest head of a log that a witness is known to have cosigned."""
    found = _read(folder, witness)
    if found is None:
        return None
    name, size, root = found[0].split("\n")[:3]
    with suppress(ValueError):
        if name == origin:
            return Head(origin=name, size=int(size), root=b64decode(root, validate=True))
    return None


def _read(folder: Folder, witness: Witness) -> tuple[str, cosignatures.Cosignature] | None:
    """Return the stored note of a witness with its cosignature, or None if there is no valid one.

    One that is damaged or forged is replaced by the next submission.
    """
    with suppress(UnicodeDecodeError, cosignatures.BadCosignature):
        signed = (folder.get(path(witness)) or b"").decode()
        text, _, lines = signed.rpartition("\n\n")
        found = cosignatures.find(lines, f"{text}\n", witness.key)
        if found and text.count("\n") >= 2:
            return signed, found
    return None


def _exchange(
    wanted: _Checkpoint, witness: Witness, old: int, way: NetworkSettings
) -> cosignatures.Cosignature:
    """Submit a checkpoint, with a proof from the size that the witness has, until it cosigns."""
    for _ in range(_TRIES):
        body = _submission(wanted, old)
        answer = asyncio.run(_request("POST", f"{witness.url}/add-checkpoint", way, body))
        if answer.status == httpx.codes.OK:
            return _cosignature(wanted, witness, answer)
        if answer.status != httpx.codes.CONFLICT:
            raise LakeError(_refused(answer))
        seen = _size(answer)
        if seen > wanted.head.size:
            raise LakeError(
                f"it has seen {seen:,} rows, but the checkpoint in the lake covers "
                f"{wanted.head.size:,}: run `auditlake verify`"
            )
        old = seen
    raise LakeError("it contradicts itself about the size it has seen")


def _submission(wanted: _Checkpoint, old: int) -> bytes:
    """Return the body of a request: the old size, the proof from it, and the checkpoint."""
    head = wanted.head
    try:
        subtree = tiles.subtree(wanted.folder, head.size)
        proof = merkle.consistency(old, 0, head.size, subtree) if old else []
    except (LookupError, ValueError):
        raise LakeError("a tile is missing or damaged: run `auditlake verify --full`") from None
    lines = [f"old {old}", *(b64encode(each).decode() for each in proof), "", head.text]
    return "\n".join((*lines, wanted.signatures)).encode()


def _cosignature(wanted: _Checkpoint, witness: Witness, answer: Answer) -> cosignatures.Cosignature:
    lines = answer.body.decode("utf-8", "replace")
    found = cosignatures.find(lines, wanted.head.text, witness.key)
    if found is None:
        raise LakeError("its answer has no cosignature of the configured key")
    return found


def _size(answer: Answer) -> int:
    found = _SIZE.fullmatch(answer.body)
    if answer.media != "text/x.tlog.size" or not found:
        raise LakeError("it answered 409 without a size")
    return int(found[1])


def _refused(answer: Answer) -> str:
    """Return why a witness refused. The text of its answer is not trusted and not shown."""
    reasons: Mapping[int, str] = {
        400: "it cannot read the request",
        403: "it does not know the key that signed the checkpoint: give it the output of "
        "`auditlake keys`",
        404: "it does not know this log: its operator has to accept it",
        422: "the log does not extend the one that it has seen: run `auditlake verify`",
    }
    return f"it answered {answer.status}: {reasons.get(answer.status, 'will be retried')}"


async def _request(method: str, url: str, way: NetworkSettings, body: bytes = b"") -> Answer:
    """Send a request and return the response, within limits of size and time.

    Raises Unreachable, and ConfigurationError for an unusable CA bundle.
    """
    options = network.options(way, url)
    try:
        async with (
            asyncio.timeout(_SECONDS),
            httpx.AsyncClient(timeout=_SECONDS, **options) as client,
        ):
            headers = {"Accept-Encoding": "identity", "Content-Type": "text/plain"}
            async with client.stream(method, url, content=body, headers=headers) as response:
                read = bytearray()
                async for part in response.aiter_raw():
                    read += part
                    if len(read) > _MAX_BYTES:
                        raise Unreachable("its answer is too large; will be retried")
    except (TimeoutError, OSError, httpx.HTTPError) as error:
        raise Unreachable(f"{type(error).__name__}: will be retried") from None
    media = response.headers.get("Content-Type", "").partition(";")[0].strip()
    return Answer(response.status_code, media, bytes(read))
