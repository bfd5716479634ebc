"""The command that simulates the vendors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.cli import config_file
from pipelines.cli.options import echo
from sandbox import server


@click.command(name="sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Keep it on loopback.")
@click.option("--port", default=8700, show_default=True)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="HOST",
    multiple=True,
    help="Another host name that requests may use; repeatable.",
)
@click.option(
    "--seed", default=1, show_default=True, help="The same seed gives the same company and events."
)
@click.option("--days", default=90, show_default=True, help="Days of history.")
@click.option(
    "--per-day", default=400.0, show_default=True, help="Records per day of a busy stream."
)
@click.option(
    "--rate", default=0.5, show_default=True, help="New records per second, over all streams."
)
@click.option(
    "--events",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve recorded records instead: DIR/KIND.ndjson or DIR/KIND/STREAM.ndjson.",
)
@click.option(
    "--incidents/--no-incidents",
    default=True,
    show_default=True,
    help="Play incidents with benign twins, for detections to find.",
)
@click.option("--limits/--no-limits", default=False, help="Apply the vendors' rate limits.")
@click.option(
    "--push-to", metavar="URL", help="Receiver for webhooks that have no registration API."
)
@click.option("--lost", default=0.0, show_default=True, help="Share of pushes never sent.")
@click.option("--twice", default=0.0, show_default=True, help="Share of pushes sent twice.")
@click.option("--late", default=0.0, show_default=True, help="Share of pushes held back.")
@click.option("--settings", "show", is_flag=True, help="Print an auditlake.toml for it and exit.")
def sandbox_(show: bool, lost: float, twice: float, late: float, **options: Any) -> None:
    """Simulate the vendors' APIs, to try auditlake without an account anywhere."""
    base_url = f"http://{options['host']}:{options['port']}"
    if show:
        for line in config_file.document(server.settings(base_url)).splitlines():
            echo(line)
        return
    echo(f"sandbox listening on {base_url}; press Ctrl-C to stop")
    if options["incidents"] and options["events"] is None:
        echo(f"the answer key of its incidents is at {base_url}/_sandbox/incidents")
    mishaps = server.mishaps(lost, twice, late, options["seed"])
    server.serve(server.Options(**options, mishaps=mishaps))
