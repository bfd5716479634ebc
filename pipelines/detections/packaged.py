"""The rules that come with the program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "packaged_rules", _HERE.parents[1] / "rules")
"""In a wheel, and in a checkout."""
NAME = Path("rules")


def places(chosen: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files and folders; for a missing folder `rules`, that of the program."""
    return tuple(_own() or place if _is_missing(place) else place for place in chosen)


def _is_missing(place: Path) -> bool:
    return place == NAME and not place.exists()


def _own() -> Path | None:
    return next((folder for folder in _FOLDERS if folder.is_dir()), None)
