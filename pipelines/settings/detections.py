"""The section [detections] of the settings: which rules look at events, and how they are tuned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from pipelines.settings.fields import Section

_NAME = re.compile(r"[A-Za-z_]\w{0,62}", re.ASCII)


def _placeholder(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("give a name of letters, digits and _, such as listed_addresses")
    return name


PlaceholderName = Annotated[str, AfterValidator(_placeholder)]


class DetectionSettings(Section):
    """Files and folders of rules in the Sigma format, and their changes."""

    enabled: bool = True
    """Whether rules are evaluated after each poll and push."""
    rules: tuple[Path, ...] = (Path("rules"),)
    """Folders are searched for .yml files, such as a checkout of SigmaHQ's repository."""
    overlay: Path = Path("rules.toml")
    """Levels, placeholders and exceptions; may be missing unless it is set here."""
    watch_lists: dict[PlaceholderName, Path] = Field(default_factory=dict)
    """Placeholder -> a text file with a value per line."""
