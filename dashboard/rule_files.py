"""The rules as they are configured here, read again only after one of their files has changed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pipelines import settings
from pipelines.clock import utc_now
from pipelines.detections import overlay, packaged
from pipelines.detections.overlay import Rulebook
from pipelines.detections.rules import Rule
from pipelines.errors import ConfigurationError
from pipelines.settings.detections import DetectionSettings

_Stamps = tuple[tuple[str, int, int], ...]


def rulebook() -> Rulebook:
    """Return the configured rules with their overlay. Raises ConfigurationError."""
    chosen = settings.found().detections
    places = packaged.places(chosen.rules)
    files = (*places, chosen.overlay, *chosen.watch_lists.values())
    return _read(chosen.model_dump_json(exclude_unset=True), tuple(_stamps(files)))


def rule(id_: str) -> Rule | None:
    """Return the rule with this id; None if no file that can be read has it."""
    with suppress(ConfigurationError):
        return next((each for each in rulebook().loaded.rules if each.id == id_), None)
    return None


def running() -> list[Rule]:
    """Return the rules that run: those that are disabled or refused cover nothing."""
    known = rulebook()
    return [each for each in known.loaded.rules if each.id in known.ruleset.all()]


@functools.lru_cache(maxsize=2)
def _read(chosen: str, stamps: _Stamps) -> Rulebook:
    """Return the rules; `stamps` identify the state of the files."""
    return overlay.read(DetectionSettings.model_validate_json(chosen), utc_now())


def _stamps(places: Iterable[Path]) -> Iterator[tuple[str, int, int]]:
    for place in places:
        for file in sorted(place.rglob("*.y*ml")) if place.is_dir() else [place]:
            if file.is_file():
                found = file.stat()
                yield str(file), found.st_mtime_ns, found.st_size
