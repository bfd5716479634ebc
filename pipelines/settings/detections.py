"""The section [detections] of the settings: which rules look at events."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class DetectionSettings(BaseModel):
    """Files and folders of rules in the Sigma format."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    rules: tuple[Path, ...] = (Path("rules"),)
    """Folders are searched for .yml files, such as a checkout of SigmaHQ's repository."""
