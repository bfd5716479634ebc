"""The command `auditlake`; cli/guide.py lists its commands and exit codes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from pipelines.cli.guide import CONFIGURATION, EXIT_CODES, FAILED, LEAVE, SectionedGroup
from pipelines.errors import AuditlakeError, ConfigurationError


class _Group(SectionedGroup):
    """Commands that report errors in one line, with an exit code and without a traceback."""

    def invoke(self, context: click.Context) -> Any:
        try:
            result = super().invoke(context)
        except AuditlakeError as error:
            _print_error(context, error)
            code = CONFIGURATION if isinstance(error, ConfigurationError) else FAILED
            context.meta.get(LEAVE, context.exit)(code)
        else:
            if LEAVE in context.meta:
                context.meta[LEAVE](0)
            return result


def _config() -> Path:
    from pipelines.settings import folders  # noqa: PLC0415 slow to import, and the help needs none

    return folders.path_from_environment()


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_config,
    show_default="auditlake.toml, or AUDITLAKE_CONFIG",
    help="The configuration file.",
)
@click.version_option(package_name="auditlake")
@click.pass_context
def main(context: click.Context, config: Path) -> None:
    """Audit logs of SaaS services in append-only Delta tables: complete, searchable, provable."""
    context.obj = config


def _print_error(context: click.Context, error: Exception) -> None:
    from pipelines.cli import options  # noqa: PLC0415 as above

    announce = options.announcer(context, err=True, level=logging.ERROR)
    for line in str(error).splitlines():
        announce(f"auditlake: {line}")
