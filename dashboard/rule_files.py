"""The rules as they are configured here, read again only after one of their files has changed."""

from __future__ import annotations

import functools
from contextlib import suppress

from pipelines import settings
from pipelines.clock import utc_now
from pipelines.detections import files, overlay
from pipelines.detections.files import Stamp
from pipelines.detections.overlay import Rulebook
from pipelines.detections.rules import Rule
from pipelines.errors import ConfigurationError
from pipelines.settings.detections import DetectionSettings


def rulebook() -> Rulebook:
    """Return the configured rules with their overlay. Raises ConfigurationError."""
    chosen = settings.found().detections
    return _read(chosen.model_dump_json(exclude_unset=True), files.stamp(chosen))


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
def _read(chosen: str, stamp: Stamp) -> Rulebook:
    """Return the rules; `stamp` identifies the state of the files."""
    return overlay.read(DetectionSettings.model_validate_json(chosen), utc_now())
