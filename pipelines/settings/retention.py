"""The section [retention] of the settings: how many days of each stream the lake keeps."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pipelines.settings.fields import Section

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}(?:/[A-Za-z0-9_]+)?")


def _stream(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            'give the name of an integration, or of a stream such as "okta/system_log"'
        )
    return name


Days = Annotated[int, Field(strict=True, ge=1)]


class RetentionSettings(Section):
    """What is not listed is kept for ever."""

    why: str = Field(default="the period in retention.days is over", min_length=1)
    """The rule that requires it; recorded permanently with each deletion."""
    days: dict[Annotated[str, AfterValidator(_stream)], Days] = Field(default_factory=dict)
    """Integration, or integration/stream, which goes first -> the days to keep."""

    def kept(self, integration: str, stream: str) -> int | None:
        """Return how many days of a stream to keep; None for all."""
        return self.days.get(f"{integration}/{stream}", self.days.get(integration))
