"""Reads the checkpoints that witnesses have cosigned, and counts the witnesses.

A witness cosigns only checkpoints that extend all it has seen of the log. A cosigned checkpoint
with which the log does not agree shows another view of it, or a rollback.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx

from pipelines.errors import ConfigurationError
from pipelines.integrity.verifier import proofs
from pipelines.integrity.verifier.job import Cosigned, LakeView, TableReport
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.settings import NetworkSettings, Witness, network

_SECONDS = 10.0
_MAX_BYTES = 16_384
_PAUSE = 60.0
_unreachable: dict[str, float] = {}
"""Address that did not answer -> the monotonic time of the next try."""
_DELAY = timedelta(hours=1)
"""How long after it was signed a checkpoint may lack cosignatures."""
_MOMENT = "%Y-%m-%d %H:%M:%S UTC"
_PREFIX = "the witness "


def check_keys(place: LakeView) -> None:
    """Raise ConfigurationError unless the keys and the quorum of the witnesses can be used."""
    try:
        names = {proofs.witness_name(vkey) for vkey in map(_vkey, place.witnesses)}
    except proofs.Invalid as error:
        raise ConfigurationError(f"witnesses: {error}") from None
    if len(names) < len(place.witnesses):
        raise ConfigurationError("witnesses: two have the same name: give each its own")
    if place.quorum > len(names):
        raise ConfigurationError(f"quorum: {place.quorum} of {len(names)} witnesses is impossible")


def cosigned(
    place: LakeView, name: str, origin: str | None, verdict: TableReport
) -> Iterator[KnownCheckpoint | Unavailable]:
    """Yield the checkpoints that witnesses have cosigned of the log `name`.

    They come from the lake, and from those witnesses whose address is known. An invalid
    cosignature in the lake is reported in the verdict. The signature of the log itself is not
    checked here.
    """
    shelf = place.shelf(name)
    for witness in place.witnesses:
        vkey = _vkey(witness)
        held = shelf.read(path(vkey))
        if held is not None:
            try:
                yield _sighting(held, vkey)
            except (proofs.Invalid, ValueError) as error:
                verdict.found("cosignature", None, f"{path(vkey)}: {error}")
        if origin and isinstance(witness, Witness):
            yield from _shown_by(witness, origin, place.network)


def path(vkey: str) -> str:
    """Return the path of the newest checkpoint a witness cosigned, in the folder of the log."""
    return f"cosignatures/{hashlib.sha256(vkey.encode()).hexdigest()[:16]}"


def agreed(verdict: TableReport, seen: KnownCheckpoint) -> None:
    """Note in the verdict that the log agrees with a checkpoint, if a witness cosigned it."""
    if not seen.cosigned_at:
        return
    name = seen.where.removeprefix(_PREFIX)
    known = verdict.cosigned.get(name)
    if known is None or known.rows <= seen.head.size:
        at = datetime.fromtimestamp(seen.cosigned_at, UTC)
        root = seen.head.root.hex()
        verdict.cosigned[name] = Cosigned(rows=seen.head.size, root=root, at=f"{at:{_MOMENT}}")


def count(place: LakeView, name: str, verdict: TableReport, now: datetime) -> None:
    """Count the witnesses of a verified log.

    Report a finding if fewer than the quorum have seen some row an hour after it was signed.
    """
    if not place.witnesses or not verdict.origin:
        return
    seen, enough = list(verdict.cosigned.values()), place.quorum
    latest = sorted(seen, key=lambda each: each.rows, reverse=True)[:enough]
    rows = latest[-1].rows if len(latest) == enough else 0
    if len(latest) == enough:
        others = sum(each.rows >= rows for each in seen)
        at = max(each.at for each in latest)
        verdict.witnessed = f"{others} of {len(place.witnesses)} witnesses have seen {rows:,} rows"
        verdict.witnessed += f" at {at}"
    else:
        verdict.witnessed = f"{len(seen)} of {len(place.witnesses)} witnesses have cosigned it"
    if len(latest) == enough and rows >= verdict.size:
        return
    signed = _signed_at(place.shelf(name), rows)
    # A time in the future is as wrong as one long ago: the history is not signed.
    if signed is None or abs(now - signed) > _DELAY:
        when = f"signed at {signed:{_MOMENT}}" if signed else "of unknown age"
        detail = f"{verdict.witnessed}; {enough} must have seen the {verdict.size:,} rows {when}"
        verdict.found("unwitnessed", None, detail)


def _signed_at(shelf: LogFiles, rows: int) -> datetime | None:
    """Return when the first checkpoint of more than `rows` rows was signed, if that is known."""
    first = None
    for file in reversed(shelf.files("history")):
        for line in reversed(shelf.tail(file).splitlines()):
            with suppress(ValueError, KeyError, TypeError):  # a power cut may truncate a line
                held = json.loads(line)
                at = datetime.fromisoformat(held["at"]).astimezone(UTC)
                if held["size"] <= rows:
                    return first
                first = min(first or at, at)
    return first


def _sighting(note: bytes, vkey: str) -> KnownCheckpoint:
    """Return the checkpoint in a note. Raises Invalid unless the witness has cosigned it."""
    name = proofs.witness_name(vkey)
    text = note.decode("utf-8", "replace")
    at = proofs.cosigned_at(text, vkey)
    if not at:
        raise proofs.Invalid(f"not cosigned by {name}")
    head = proofs.checkpoint_in(text.rpartition("\n\n")[0] + "\n")
    return KnownCheckpoint(head=head, where=f"{_PREFIX}{name}", note=text, cosigned_at=at)


def _shown_by(
    witness: Witness, origin: str, way: NetworkSettings
) -> Iterator[KnownCheckpoint | Unavailable]:
    """Yield the newest checkpoint of a log that a witness itself shows, if it shows any."""
    where = f"{_PREFIX}{witness.name}"
    if time.monotonic() < _unreachable.get(witness.url, 0.0):
        yield Unavailable(where=where, reason="does not answer")
        return
    url = f"{witness.url}/{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"
    try:
        found = asyncio.run(_fetched(url, way))
        if found is not None:
            yield _sighting(found, witness.key)
    except (TimeoutError, OSError, httpx.HTTPError) as error:
        _unreachable[witness.url] = time.monotonic() + _PAUSE
        yield Unavailable(where=where, reason=f"does not answer ({type(error).__name__})")
    except ConfigurationError as error:
        yield Unavailable(where=where, reason=str(error))
    except (proofs.Invalid, ValueError) as error:
        yield Unavailable(where=where, reason=f"its answer does not count: {error}")


async def _fetched(url: str, way: NetworkSettings) -> bytes | None:
    """Return the body of a response, within limits of size and time; None if there is none."""
    headers, options = {"Accept-Encoding": "identity"}, network.options(way, url)
    async with (
        asyncio.timeout(_SECONDS),
        httpx.AsyncClient(timeout=_SECONDS, headers=headers, **options) as client,
        client.stream("GET", url) as response,
    ):
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        response.raise_for_status()
        read = bytearray()
        async for part in response.aiter_raw():
            read += part
            if len(read) > _MAX_BYTES:
                raise proofs.Invalid("it is too large")
    return bytes(read)


def _vkey(witness: Witness | str) -> str:
    return witness if isinstance(witness, str) else witness.key
