"""Where the configuration and the state of this user are."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

from pipelines import disk

CONFIG = "AUDITLAKE_CONFIG"
"""The environment variable with the path of the configuration."""
_log = logging.getLogger(__name__)


def path_from_environment() -> Path:
    """Return the path of the configuration."""
    return Path(os.environ.get(CONFIG) or "auditlake.toml")


def state_folder() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "auditlake"


def shared_folder() -> Path | None:
    """Return the private folder of files that processes of this user share, and create it.

    It lies next to the configuration if the user has no home; None if neither can be used.
    """
    for place in (state_folder(), path_from_environment().parent / ".auditlake"):
        try:
            folder = disk.private_folder(place.expanduser().absolute())
        except disk.ForeignOwner as error:
            _warn_of_foreign(error.filename)
        # A RuntimeError: the user has no home.
        except (OSError, RuntimeError):
            continue
        else:
            if os.access(folder, os.W_OK):
                return folder
    return None


@cache
def _warn_of_foreign(path: str) -> None:
    _log.warning("%s belongs to another user and is not used: set XDG_STATE_HOME", path)
