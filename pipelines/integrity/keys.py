"""Where signing keys come from, and which public keys are believed; none of it lies in the lake.

All keys found sign, so that two overlap while one replaces the other: `rotate` adds one, `retire`
ends the overlap. Public keys of retired ones stay believed until a person takes them out of
`trusted.txt`, as one does after a theft.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from pipelines.errors import ConfigurationError
from pipelines.integrity import note
from pipelines.integrity.note import Key
from pipelines.settings import IntegritySettings

_PATIENCE = 30


def signing(settings: IntegritySettings) -> list[Key]:
    """The keys that sign, made on first use where the settings name none."""
    if settings.key_command:
        return _known(settings, _printed(settings.key_command).split("\n"))
    if settings.keys:
        return _known(settings, [key.get_secret_value() for key in settings.keys])
    if not _files(settings):
        _add(settings, 1)
    return _known(settings, [_private(path) for path in _files(settings)])


def trusted(settings: IntegritySettings) -> list[str]:
    """The public keys whose signatures count: of all keys ever used here, and those configured."""
    path = folder(settings) / "trusted.txt"
    held = path.read_text(encoding="utf-8").split() if path.exists() else []
    return list(dict.fromkeys([*held, *settings.trusted]))


def rotate(settings: IntegritySettings) -> Key:
    """A further key, which signs from now on beside those there are."""
    signing(settings)
    return _add(settings, int(_files(settings)[-1].stem) + 1)


def retire(settings: IntegritySettings) -> str:
    """Take the oldest key away, unless it is the only one; its name."""
    files = _files(settings)
    if len(files) < 2:
        raise ConfigurationError("one key is left: make another with `auditlake keys rotate` first")
    files[0].unlink()
    return files[0].name


def trust(settings: IntegritySettings, vkey: str) -> None:
    path = folder(settings) / "trusted.txt"
    if vkey not in trusted(settings):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{vkey}\n")


def _known(settings: IntegritySettings, lines: list[str]) -> list[Key]:
    keys = [note.read_key(line) for line in lines if line.strip()]
    if not keys:
        raise ConfigurationError("integrity.key_command: it printed no key")
    for key in keys:
        trust(settings, key.vkey)
    return keys


def _add(settings: IntegritySettings, number: int) -> Key:
    """Write a new key that only its owner can read; whoever come at once get the same one."""
    place = folder(settings) / "keys"
    place.mkdir(mode=0o700, exist_ok=True)
    key, draft = note.new_key(settings.name), place / f".{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{key.secret}\n")
        file.flush()
        os.fsync(descriptor)
    try:
        os.link(draft, place / f"{number:04}.key")
    except FileExistsError:
        return note.read_key(_private(place / f"{number:04}.key"))
    finally:
        draft.unlink()
    return key


def _files(settings: IntegritySettings) -> list[Path]:
    return sorted((folder(settings) / "keys").glob("*.key"))


def _private(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path}: others can read this key: chmod 600 it, or rotate")
    return path.read_text(encoding="utf-8")


def folder(settings: IntegritySettings) -> Path:
    """What must not lie in the lake lies here; made for its owner alone."""
    found = settings.folder.expanduser()
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"integrity.folder: {found}: {error.strerror}: name a folder this user may write"
        ) from None
    return found


def _printed(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"integrity.key_command: {command[0]}: {type(error).__name__}: it must print the key"
        ) from None
    return done.stdout.decode()
