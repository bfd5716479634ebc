"""Where tests keep lakes: in a folder, and in simulated object stores.

Of the tests that are marked with `everywhere`, `make test` draws some to run on S3's protocol, too,
always the same; `make test-full` runs all there, and on Azure's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import obstore
import pytest

from pipelines.lake import object_store
from pipelines.lake.tables import Lake
from tests.tiers import FULL

DISK, S3, AZURE = "disk", "s3", "azure"
_SAMPLE = 1
_SEED = 16


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or a prefix of an object store, for the lakes of one test."""

    root: str
    options: dict[str, str] | None = field(default=None, repr=False)

    def lake(self, name: str = "lake", **keys: Any) -> Lake:
        return Lake(f"{self.root}/{name}", self.options, **keys)

    def copy(self, folder: Path, lake: Lake) -> None:
        """Copy the files of a folder to a lake that is empty."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                put(lake, path.relative_to(folder).as_posix(), path.read_bytes())


def put(lake: Lake, name: str, content: bytes) -> None:
    """Write a file of a lake, wherever it is."""
    if lake.local is None:
        obstore.put(object_store.opened(lake.root, lake.storage_options), name, content)
    else:
        (lake.local / name).parent.mkdir(parents=True, exist_ok=True)
        (lake.local / name).write_bytes(content)


def files(lake: Lake, under: str) -> dict[str, bytes]:
    """Return the files of a lake below a folder, by their names in the lake."""
    if lake.local is not None:
        found = [path for path in (lake.local / under).rglob("*") if path.is_file()]
        return {path.relative_to(lake.local).as_posix(): path.read_bytes() for path in found}
    store = object_store.opened(lake.root, lake.storage_options)
    names = object_store.names(lake.uri(under), lake.storage_options or {})
    return {
        f"{under}/{name}": bytes(obstore.get(store, f"{under}/{name}").bytes()) for name in names
    }


def _param(place: str, *marks: pytest.MarkDecorator) -> Any:
    # One server for each, so one worker.
    return pytest.param(place, id=place, marks=(pytest.mark.xdist_group(place), *marks))


def everywhere(*, sampled: bool = True) -> pytest.MarkDecorator:
    """Run a test with `place`, or `lake`, on a disk and on the object stores.

    Without `sampled`, which is for long tests, on the stores in `make test-full` only.
    """
    sample = [_param(S3, pytest.mark.sample)] if sampled else []
    return _places(pytest.param(DISK, id=DISK), *([_param(S3), _param(AZURE)] if FULL else sample))


def on_stores() -> pytest.MarkDecorator:
    """Run a test with `place`, or `lake`, on S3, and in `make test-full` on Azure, too."""
    return _places(_param(S3), *([_param(AZURE)] if FULL else []))


def _places(*params: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("place", params, indirect=True)


def unsampled(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests on object stores that `make test` leaves out."""
    ours = [item for item in items if item.get_closest_marker("sample")]
    kept = random.Random(_SEED).sample(ours, min(_SAMPLE, len(ours)))
    return [item for item in ours if item not in kept]
