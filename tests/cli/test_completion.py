"""Completion in the shells, with the names of the configured integrations."""

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from pipelines.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_AUDITLAKE_COMPLETE={shell}_complete" in done.stdout


def completed(tmp_path, arguments, incomplete):
    (tmp_path / "auditlake.toml").write_text("[integrations.okta]\n[integrations.office_365]\n")
    config = ["--config", str(tmp_path / "auditlake.toml")]
    shell = ShellComplete(main, {}, "auditlake", "_AUDITLAKE_COMPLETE")
    return [one.value for one in shell.get_completions([*config, *arguments], incomplete)]


@pytest.mark.parametrize(
    ("arguments", "incomplete", "found"),
    [
        (["poll"], "o", ["okta", "office_365"]),
        (["poll", "okta"], "off", ["office_365"]),
        (["backfill"], "ok", ["okta"]),
        (["webhooks", "register"], "", ["okta", "office_365"]),
        (["export", "--integration"], "x", []),
        ([], "verify", ["verify", "verify-proof"]),
    ],
)
def test_commands_and_integrations_are_completed(tmp_path, arguments, incomplete, found):
    assert completed(tmp_path, arguments, incomplete) == found


def test_without_a_configuration_nothing_is_suggested_and_nothing_fails(tmp_path):
    shell = ShellComplete(main, {}, "auditlake", "_AUDITLAKE_COMPLETE")
    config = ["--config", str(tmp_path / "none.toml")]
    assert shell.get_completions([*config, "poll"], "") == []
