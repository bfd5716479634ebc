"""Signing keys and trusted public keys, all of them stored outside the lake.

Every current key signs, so two keys overlap during a rotation: `rotate` adds the new key, `retire`
removes the old one. The public key of a retired key stays trusted until an operator deletes it
from `trusted.txt`, for instance after a theft.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines import disk
from pipelines.errors import ConfigurationError
from pipelines.integrity import note
from pipelines.integrity.note import Key
from pipelines.settings import IntegritySettings

_TIMEOUT = 30


def signing(settings: IntegritySettings) -> list[Key]:
    """Return the signing keys; the first one is created if the settings name none."""
    if settings.key_command:
        return _parse(settings, _run_command(settings.key_command).split("\n"))
    if settings.keys:
        return _parse(settings, [key.get_secret_value() for key in settings.keys])
    if not _files(settings):
        _add(settings, 1)
    return _parse(settings, [_read(path) for path in _files(settings)])


def trusted(settings: IntegritySettings) -> list[str]:
    """Return the trusted public keys: those of all keys ever used here, and the configured ones."""
    path = folder(settings) / "trusted.txt"
    held = path.read_text(encoding="utf-8").split() if path.exists() else []
    return list(dict.fromkeys([*held, *settings.trusted]))


def trusted_anew(settings: IntegritySettings) -> list[str]:
    """Return the trusted public keys, and first add those of keys that were not used here yet."""
    if settings.keys or settings.key_command or _files(settings):
        signing(settings)
    return trusted(settings)


def rotate(settings: IntegritySettings) -> Key:
    """Create and return a further key, which signs from now on in addition to the others."""
    signing(settings)
    return _add(settings, int(_files(settings)[-1].stem) + 1)


def retire(settings: IntegritySettings) -> str:
    """Delete the oldest key and return its file name.

    Raises ConfigurationError if it is the only one.
    """
    files = _files(settings)
    if len(files) < 2:
        raise ConfigurationError("only one key is left: run `auditlake keys rotate` first")
    files[0].unlink()
    disk.sync(files[0].parent)
    return files[0].name


def trust(settings: IntegritySettings, vkey: str) -> None:
    """Add a public key to trusted.txt, before the first checkpoint that needs it."""
    if vkey in trusted(settings):
        return
    with _alone(settings):
        path = folder(settings) / "trusted.txt"
        held = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines = "".join(f"{line}\n" for line in (*held, vkey))
        disk.write_atomically(path, lines.encode(), mode=disk.READABLE)


@contextmanager
def _alone(settings: IntegritySettings) -> Iterator[None]:
    """Lock the folder, so that of two processes none overwrites what the other adds."""
    descriptor = os.open(folder(settings), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _parse(settings: IntegritySettings, lines: list[str]) -> list[Key]:
    keys = [note.read_key(line) for line in lines if line.strip()]
    if not keys:
        raise ConfigurationError("integrity.key_command: no output: it must print PRIVATE+KEY+...")
    for key in keys:
        trust(settings, key.vkey)
    return keys


def _add(settings: IntegritySettings, number: int) -> Key:
    """Create a key file readable only by its owner; concurrent callers all get the same key."""
    place = folder(settings) / "keys"
    place.mkdir(mode=0o700, exist_ok=True)
    key, path = note.new_key(settings.name), place / f"{number:04}.key"
    try:
        disk.write_atomically(path, f"{key.secret}\n".encode(), overwrite=False)
    except FileExistsError:
        return note.read_key(_read(path))
    return key


def _files(settings: IntegritySettings) -> list[Path]:
    return sorted((folder(settings) / "keys").glob("*.key"))


def _read(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path}: readable by others: chmod 600 it, or rotate the key")
    _check_owner(path)
    return path.read_text(encoding="utf-8")


def folder(settings: IntegritySettings) -> Path:
    """Return the folder for keys and local state, creating it with access for its owner only."""
    found = settings.folder.expanduser()
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"integrity.folder: {found}: {error.strerror}: choose a writable folder"
        ) from None
    _check_owner(found)
    return found


def _check_owner(path: Path) -> None:
    """Raise ConfigurationError if another user could have put keys there that they know."""
    # In containers root commonly uses the folders of another user.
    if os.geteuid() != 0:
        try:
            disk.check_owner(path)
        except disk.ForeignOwner:
            raise ConfigurationError(
                f"{path}: belongs to another user, who may know the key: choose another folder"
            ) from None


def _run_command(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        # Only the error's type: its text has the command's arguments, which may be secret.
        raise ConfigurationError(
            f"integrity.key_command: {command[0]}: {type(error).__name__}: it must print a key"
        ) from None
    return done.stdout.decode()
