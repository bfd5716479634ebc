"""azurite on loopback: Azure's blob storage, as simulated by Microsoft, from the npm registry.

AUDITLAKE_AZURITE names a folder in which `npm install azurite` was run, to spare the download.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

import httpx

URL = "AZURITE_BLOB_STORAGE_URL"
"""The environment variable that tells clients the address; set before any process is forked."""
_VERSION = "3.35.0"
_ACCOUNT, _CONTAINER = "account", "lakes"
_KEY = base64.b64encode(b"a key for tests, of 32 bytes or so").decode()


class Missing(Exception):
    """azurite cannot be installed here; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Azure:
    """A running server with an empty container."""

    @property
    def options(self) -> dict[str, str]:
        # azurite does not list from a name on, which object_store knows of emulators alone.
        return {
            "azure_storage_account_name": _ACCOUNT,
            "azure_storage_account_key": _KEY,
            "azure_storage_use_emulator": "true",
            "azure_allow_http": "true",
        }

    def root(self) -> str:
        """Return the address of a new, empty folder."""
        return f"az://{_CONTAINER}/{uuid.uuid4().hex}"


def installed(folder: Path) -> Path:
    """Return azurite's program, after installing it in a folder. Raises Missing."""
    program = "node_modules/azurite/dist/src/blob/main.js"
    if known := os.environ.get("AUDITLAKE_AZURITE"):
        return Path(known) / program
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Missing("azurite needs npm and node, which are not installed here")
    command = [npm, "install", "--prefix", folder, "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(
        [*command, f"azurite@{_VERSION}"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise Missing(f"npm cannot install azurite: {done.stderr.strip()[-200:]}")
    return folder / program


@contextmanager
def running(program: Path) -> Iterator[Azure]:
    """Serve an empty container, from memory, at the address in the environment variable URL."""
    url = os.environ[URL]
    command = ["node", program, "--blobPort", url.rpartition(":")[2], "--blobHost", "127.0.0.1"]
    command += ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    accounts = {**os.environ, "AZURITE_ACCOUNTS": f"{_ACCOUNT}:{_KEY}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=accounts, cwd=program.parent
    ) as process:
        assert process.stdout
        try:
            if not any("successfully listens" in line for line in process.stdout):
                raise Missing("azurite does not start")
            _create_container(url)
            yield Azure()
        finally:
            process.kill()


def _create_container(url: str) -> None:
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    named = "\n".join(f"{name}:{value}" for name, value in headers.items())
    resource = f"/{_ACCOUNT}/{_ACCOUNT}/{_CONTAINER}\nrestype:container"
    signed = "PUT" + "\n" * 12 + f"{named}\n{resource}"
    mac = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(mac).decode()}"
    address = f"{url}/{_ACCOUNT}/{_CONTAINER}?restype=container"
    headers["Content-Length"] = "0"
    httpx.put(address, headers=headers, timeout=120).raise_for_status()
