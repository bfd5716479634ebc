"""The files that rules are read from, with the folder of rules that comes with the program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pipelines.settings.detections import DetectionSettings

MOST_FILES = 20_000
TESTS = (".tests.yml", ".tests.yaml")
_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "packaged_rules", _HERE.parents[1] / "rules")
"""In a wheel, and in a checkout."""
_NAME = Path("rules")
_SUFFIXES = (".yml", ".yaml")

Stamp = frozenset[tuple[Path, int, int]]
"""Path, modification time in ns, and size of each file."""


def places(chosen: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files and folders; for a missing folder `rules`, that of the program."""
    return tuple(_own() or place if _is_missing(place) else place for place in chosen)


def _is_missing(place: Path) -> bool:
    return place == _NAME and not place.exists()


def _own() -> Path | None:
    return next((folder for folder in _FOLDERS if folder.is_dir()), None)


def stamp(chosen: DetectionSettings) -> Stamp:
    """Return a value that changes with a file of the rules, overlay and watch lists."""
    read = (file for file, found in rules(places(chosen.rules)) if not isinstance(found, str))
    others = [chosen.overlay, *chosen.watch_lists.values()]
    return frozenset(each for file in (*read, *others) for each in _stamped(file))


def _stamped(file: Path) -> Iterator[tuple[Path, int, int]]:
    with suppress(OSError):
        found = file.stat()
        yield file, found.st_mtime_ns, found.st_size


def changed(chosen: DetectionSettings, since: datetime) -> bool:
    """Return whether one of these files was modified after a time."""
    return any(mtime > since.timestamp() * 1e9 for _, mtime, _ in stamp(chosen))


def rules(places: Iterable[Path]) -> Iterator[tuple[Path, bool | str]]:
    """Yield each file of rules once, and whether it was named itself, or why it cannot be read."""
    seen: set[Path] = set()
    for place in places:
        if place.is_dir():
            found: Iterable[tuple[Path, Path]] = _below(place, place.resolve())
        elif place.is_file():
            found = [(place, place.resolve())]
        else:
            yield place, "not found"
            continue
        for file, real in found:
            if real in seen:
                continue
            if len(seen) == MOST_FILES:
                yield place, f"more than {MOST_FILES} files: name a smaller folder"
                return
            seen.add(real)
            yield file, file == place


def _below(folder: Path, real: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a folder, whose resolved path is `real`, each with its resolved path."""
    entries: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as found:
        entries = sorted(found, key=lambda each: each.name)
    for each in entries:
        if each.name.endswith(_SUFFIXES) and not each.name.endswith(TESTS) and each.is_file():
            file = folder / each.name
            yield file, file.resolve() if each.is_symlink() else real / each.name
    for each in entries:
        if each.is_dir(follow_symlinks=False) and not each.name.startswith("."):
            yield from _below(folder / each.name, real / each.name)
