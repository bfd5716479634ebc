"""A private PostgreSQL cluster, started by an unprivileged user."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import free_ports

# Debian keeps it out of the PATH.
_DEBIAN = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
INITDB = shutil.which("initdb") or (str(_DEBIAN[-1]) if _DEBIAN else None)
_OPTIONS = "-c fsync=off -c unix_socket_directories='' -c max_connections=60 -p {port}"


def _demoted():
    """Return the options by which a process of root runs as a user that PostgreSQL accepts."""
    return {} if os.geteuid() else {"user": "nobody", "extra_groups": []}


def _run(folder, *command):
    # The server inherits the output of pg_ctl, so it must not be a pipe.
    with (folder / "log").open("ab") as out:
        subprocess.run(command, cwd=folder, check=True, stdout=out, stderr=out, **_demoted())


@contextmanager
def running():
    """Yield the environment of deploy/dagster/postgres.yaml for a cluster that is running."""
    (port,) = free_ports(1)
    # Not in tmp_path: its parents are closed to other users.
    with tempfile.TemporaryDirectory(prefix="auditlake-postgres-") as name:
        folder = Path(name)
        secret = folder / "password"
        secret.write_text("of the tests\n")
        if not os.geteuid():
            nobody = pwd.getpwnam("nobody")
            for path in (folder, secret):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        data = str(folder / "data")
        _run(folder, INITDB, "-D", data, "-U", "dagster", "-A", "scram-sha-256", "-E", "UTF8",
             "--no-sync", f"--pwfile={secret}")  # fmt: skip
        control = Path(INITDB).resolve().with_name("pg_ctl")
        options = _OPTIONS.format(port=port)
        _run(
            folder,
            control,
            "-D",
            data,
            "-w",
            "-o",
            options,
            "-l",
            str(folder / "data/log"),
            "start",
        )
        try:
            yield {
                "DAGSTER_POSTGRES_HOST": "127.0.0.1",
                "DAGSTER_POSTGRES_PORT": str(port),
                "DAGSTER_POSTGRES_DB": "postgres",
                "DAGSTER_POSTGRES_USER": "dagster",
                "DAGSTER_POSTGRES_PASSWORD": "of the tests",
            }
        finally:
            _run(folder, control, "-D", data, "-m", "immediate", "stop")
