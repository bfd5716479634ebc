"""The section [detections] of the settings: which rules look at events."""

from __future__ import annotations

from pathlib import Path

from pipelines.settings.fields import Section


class DetectionSettings(Section):
    """Files and folders of rules in the Sigma format."""

    rules: tuple[Path, ...] = (Path("rules"),)
    """Folders are searched for .yml files, such as a checkout of SigmaHQ's repository."""
