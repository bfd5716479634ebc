"""Dagster's web server behind guards: `python -m pipelines.orchestration.webserver`.

It takes the options and environment variables of `dagster-webserver`. The hosts allowed are those
of loopback, `--host`, and `dagster.allowed_hosts` of auditlake.toml.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from dagster_webserver import cli
from starlette.types import ASGIApp

from pipelines import settings
from pipelines.orchestration.json_only import JsonOnly
from pipelines.settings.browser_guard import BrowserGuard

_CREATE = "create_app_from_workspace_process_context"


def guarded(app: ASGIApp, names: Collection[str] = ()) -> ASGIApp:
    """Return Dagster's application behind the guards; `names` are those of `BrowserGuard`."""
    return BrowserGuard(JsonOnly(app), names)


def main() -> None:
    # An AttributeError here means that a release of Dagster creates its application elsewhere.
    create = getattr(cli, _CREATE)

    def create_guarded(*arguments: Any, **options: Any) -> ASGIApp:
        host = click.get_current_context().params["host"]
        return guarded(create(*arguments, **options), {host, *settings.public_names("dagster")})

    setattr(cli, _CREATE, create_guarded)
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
