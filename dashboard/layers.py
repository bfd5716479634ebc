"""Charts in layers that are not validated each time they are drawn, which takes most of the time.

The tests validate them.
"""

from __future__ import annotations

from typing import Any

import altair as alt
from altair.utils import schemapi

# Altair would validate each part of a chart when it is made, and each part within another.
schemapi.disable_debug_mode()


class Layers(alt.LayerChart):
    """Charts on top of each other."""

    def to_dict(self, validate: bool = False, **options: Any) -> dict[str, Any]:
        """Return the specification. Raises SchemaValidationError, if it is to `validate`."""
        return super().to_dict(validate, **options)
