"""The commands about integrity; registered in pipelines/cli.py."""

from __future__ import annotations

from pipelines.integrity import keys, memory
from pipelines.integrity.verifier.verify import Place
from pipelines.lake import Lake
from pipelines.settings import IntegritySettings


def place(lake: Lake, settings: IntegritySettings) -> Place:
    """The lake as a verifier sees it."""
    return Place(
        root=lake.root,
        options=lake.storage_options,
        memory=memory.folder(lake, settings),
        keys=keys.trusted(settings),
        anchors=settings.anchors,
    )
