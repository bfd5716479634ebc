"""Completion of commands, options and names of integrations in bash, zsh and fish."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from pipelines.cli import options
from pipelines.errors import ConfigurationError

_VARIABLE = "_AUDITLAKE_COMPLETE"


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in SHELL.

    bash and zsh: eval "$(auditlake completion bash)" in ~/.bashrc or ~/.zshrc. fish: write it to
    ~/.config/fish/completions/auditlake.fish.
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise ConfigurationError(f"{shell}: cannot be completed by this version of click")
    script = complete(context.find_root().command, {}, "auditlake", _VARIABLE)
    for line in (script.source_template % script.source_vars()).splitlines():
        options.echo(line)
