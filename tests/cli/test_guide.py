"""The help shows every command in a group, with examples that parse."""

import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from pipelines.cli import guide
from pipelines.cli.main import main

EXAMPLES = [(name, line) for name, lines in guide.EXAMPLES.items() for line in lines]


def test_every_command_is_in_one_group_and_has_an_example():
    listed = [name for names in guide.SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(guide.EXAMPLES)
    assert all(
        len(summary) <= 60 for names in guide.SECTIONS.values() for _, summary in names.values()
    )


def test_the_help_shows_the_groups_and_all_commands():
    shown = CliRunner().invoke(main, ["--help"]).output
    for section, names in guide.SECTIONS.items():
        part = shown.partition(f"\n{section}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in part.splitlines() if line[2] != " "] == list(names)


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_is_shown_and_parses(name, line, tmp_path, monkeypatch):
    shown = CliRunner().invoke(main, [name, "--help"], terminal_width=120).output
    assert line in [shown_line.strip() for shown_line in shown.splitlines()]
    if not line.startswith("auditlake"):
        return
    monkeypatch.chdir(tmp_path)
    (tmp_path / "proof.json").write_text("{}")
    words = shlex.split(line.partition(" <")[0].partition(" >")[0])[1:]
    context = main.make_context("auditlake", words)
    command = main.get_command(context, name)
    given = context.protected_args if hasattr(context, "protected_args") else []
    arguments = [*given, *context.args][1:]
    if isinstance(command, click.Group):
        assert not arguments or arguments[0] in command.commands
    else:
        assert command.make_context(name, arguments, parent=context)


def test_the_help_imports_no_library_but_click():
    heavy = {"polars", "httpx", "pydantic", "rich", "deltalake", "dagster", "cryptography"}
    code = "import sys\nfrom pipelines.cli.main import main\n"
    code += f"try: main(['--help'])\nfinally: print('loaded', *{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded"
