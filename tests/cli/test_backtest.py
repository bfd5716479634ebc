"""The command that backtests a rule."""

import json

import pytest

from pipelines.cli import backtest as command
from pipelines.detections import evaluate, interrupted
from pipelines.lake.tables import Lake
from tests.cli.command import run
from tests.cli.test_detect import SINCE, folder  # noqa: F401 fixture

RECEIVER = """
[alerts.receivers.security]
kind = "slack"
url = "https://hooks.slack.example/s3cr3t"
[[alerts.routes]]
receivers = ["security"]
level = "high"
"""


@pytest.fixture
def alerted(folder):  # noqa: F811
    """The folder with a receiver in its configuration."""
    config = folder / "auditlake.toml"
    config.write_text(config.read_text() + RECEIVER)
    return folder


def backtest(where, *arguments):
    return run(where, "rules", "backtest", *arguments, *SINCE)


def test_figures_samples_and_messages_are_printed(alerted):
    found = backtest(alerted, "many")
    assert found.exit_code == 0
    text = " ".join(found.output.split())
    assert "2026-03-01 1" in text
    assert "ada@example.com 1" in text
    assert "4 rows, 1 finding of Correlation 3" in text
    assert "1 of 1 finding would have been alerted:" in text
    assert "security 1 0 0" in text
    assert "s3cr3t" not in text
    assert backtest(alerted, "none").exit_code == 2


def test_without_a_receiver_nobody_would_have_been_alerted(folder):  # noqa: F811
    assert "no receiver is configured" in backtest(folder, "rule_1").output


def test_one_document_has_all_of_it(alerted):
    told = json.loads(backtest(alerted, "rule_1", "--json").stdout)
    assert told["rule"]["level"] == "high"
    assert told["days"] == [{"day": "2026-03-01", "findings": 1}]
    assert [each["findings"] for each in told["entities"]] == [1]
    assert told["alerts"]["messages"] == {"security": {"alerts": 1, "updates": 0, "digests": 0}}
    assert [each["level"] for each in told["samples"]] == ["high"]
    none = json.loads(backtest(alerted, "rule_1", "--json", "--samples", "0").stdout)
    assert (none["findings"], none["samples"]) == (1, [])


def test_it_goes_on_after_an_interruption_unless_restarted(folder, monkeypatch):  # noqa: F811
    counted = []
    real = evaluate.evaluate

    def counting(rules, names, rows, **options):
        counted.append(rows.log.key.integration)
        return real(rules, names, rows, **options)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "evaluate", counting)
    with monkeypatch.context() as patch:
        # After all rows were evaluated, before the windows of the correlation are.
        patch.setattr(command.backtest, "_correlated", interrupt)
        stopped = backtest(folder, "many")
    assert stopped.exit_code == 1
    assert "the same command goes on from here" in stopped.output
    assert sorted(counted) == ["jumpcloud", "okta"]
    assert "4 rows, 1 finding" in backtest(folder, "many").output
    assert len(counted) == 2
    assert [*interrupted.of(Lake(str(folder / "data"))).folder.iterdir()] == []
    backtest(folder, "many", "--restart")
    assert len(counted) == 4
