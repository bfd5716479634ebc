"""`auditlake dashboard`: the dashboard alone, where a supervisor runs each server by itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from pipelines import settings
from pipelines.settings import Site

_APP = Path(__file__).parents[2] / "dashboard" / "app.py"


def command(dashboard: Site) -> list[str]:
    """Return the command that runs Streamlit on the address in the settings."""
    return [
        *(sys.executable, "-m", "streamlit", "run", str(_APP)),
        f"--server.address={dashboard.host}",
        f"--server.port={dashboard.port}",
        "--server.headless=true",
        *_public_name(dashboard),
    ]


def _public_name(dashboard: Site) -> list[str]:
    """Return the option with the name that Streamlit accepts WebSockets for behind a proxy."""
    names = [urlsplit(f"//{host}").hostname for host in dashboard.allowed_hosts[:1]]
    return [f"--browser.serverAddress={name}" for name in names]


@click.command(name="dashboard")
@click.pass_context
def dashboard_(context: click.Context) -> None:
    """Run the dashboard alone, on `dashboard.host` and `dashboard.port`.

    On an address other than loopback it starts only with sign-in: docs/dashboard.md.
    """
    config: Path = context.obj
    chosen = settings.load(config)
    # A module in the current folder must not replace one of the program's.
    changed = {"AUDITLAKE_CONFIG": str(config.absolute()), "PYTHONSAFEPATH": "1"}
    # In place of this process, so that signals of a supervisor reach Streamlit itself.
    os.execve(sys.executable, command(chosen.dashboard), {**os.environ, **changed})  # noqa: S606
