"""A drill: a backup beside polling, more records and pushes, a restore, and polling again."""

from __future__ import annotations

import shutil
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipelines import registry, settings
from pipelines.cli import config_file
from pipelines.cli.main import main
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.rounds import Round
from pipelines.integrity import backup
from pipelines.lake import raw, tables
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Page
from sandbox.server import Options, Running, running
from tests.conftest import World, raw_table
from tests.promises.ledgers import Clock, arrive, difference, poll, spread

LOGS = [StreamKey("okta", "system_log"), StreamKey("jumpcloud", "directory_insights")]


class Drill:
    """A deployment in the working directory, with vendors and a clock of its own."""

    def __init__(self, vendors: Running, clock: Clock) -> None:
        found = vendors.settings()
        kinds = {log.integration: found[log.integration] for log in LOGS}
        Path("auditlake.toml").write_text(config_file.document(kinds, "data", integrity="state"))
        chosen = settings.load(Path("auditlake.toml"))
        self.lake: Lake = tables.configured(chosen)
        self.sources: list[Source] = registry.sources(chosen)
        self.vendors, self.clock = vendors, clock

    def poll(self) -> None:
        found = chain.from_iterable(poll(self.lake, each, self.clock) for each in self.sources)
        assert [report.error for report in found] == [None] * len(LOGS)

    def happen(self, count: int) -> None:
        """Let time pass in which records arrive, of which the newest are pushed."""
        since = self.clock()
        self.clock.pass_by(hours=1)
        for log in LOGS:
            arrive(self.vendors, *log, spread(since, self.clock() - timedelta(seconds=9), count))
        okta = next(source for source in self.sources if source.name == "okta")
        pushed = [each.raw for each in self.vendors.sandbox.log(*LOGS[0]).visible()[-3:]]
        with service_client.connect(okta, clock=self.clock) as client:
            this = Round(lake=self.lake, source=okta, stream=okta.streams()[0], client=client,
                         via="webhook", clock=self.clock)  # fmt: skip
            assert rounds.push(this, [Page(records=pushed, cursor="")]).error is None

    def lost_or_twice(self) -> list[str]:
        world = World(running=self.vendors, lake=self.lake)
        return [difference(world, *log) for log in LOGS]

    def rows(self) -> list[int]:
        return [raw_table(self.lake, *log).height for log in LOGS]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def verified() -> str:
    done = run("verify", "--full")
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def drill(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clock = Clock()
    with running(Options(days=2, per_day=40, rate=0, anchor=clock()), clock) as vendors:
        yield Drill(vendors, clock)


@pytest.mark.parametrize("disaster", ["bad data", "lost disk"])
def test_after_a_restore_nothing_is_lost_or_there_twice(drill, tmp_path, monkeypatch, disaster):
    drill.poll()
    drill.happen(9)
    # It is copied while rounds and pushes go on.
    real = backup._Copy._table

    def table(self, lake, name):
        if name == LOGS[0].table:
            drill.poll()
            drill.happen(4)
        real(self, lake, name)

    monkeypatch.setattr(backup._Copy, "_table", table)
    assert run("backup", str(tmp_path / "kept")).exit_code == 0
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    drill.poll()
    drill.happen(15)
    drill.poll()
    before, checkpoints = drill.rows(), tmp_path / "checkpoints"
    for log in LOGS:
        (checkpoints / log.integration).mkdir(parents=True)
        shutil.copy(tmp_path / "data" / "integrity" / log.app / "checkpoint",
                    checkpoints / log.integration / "checkpoint")  # fmt: skip
    assert drill.lost_or_twice() == ["", ""]

    if disaster == "lost disk":
        shutil.rmtree(tmp_path / "data")
    shown = run("restore", str(tmp_path / "kept"), "--dry-run")
    assert shown.exit_code == 0, shown.output
    done = run("restore", str(tmp_path / "kept"), "--why", "a drill", "--who", "ada", "--yes")
    assert done.exit_code == 0, done.output
    assert all(now < then for now, then in zip(drill.rows(), before, strict=True))
    drill.poll()
    drill.happen(2)
    drill.poll()

    # The numbers of lost rows stay unused, where their hashes are still there.
    assert {each.replace("seq: 1", "") for each in drill.lost_or_twice()} == {""}
    assert drill.rows() == [rows + 2 for rows in before]
    for log in LOGS:
        seqs = raw_table(drill.lake, *log)["seq"]
        signed = before[LOGS.index(log)]
        if disaster == "bad data":
            lost = signed - (seqs < signed).sum()
            assert seqs[-1] + 1 == raw.position(drill.lake, log).rows == signed + 2 + lost
        else:
            assert seqs.to_list() == list(range(signed + 2))
    assert all(" RESTORED on " in text for text in tables_of(verified()))
    done = run("verify", "--since", str(checkpoints))
    assert done.exit_code == 0, done.output

    # An older state that nobody recorded is a rollback, as before.
    shutil.move(tmp_path / "data", tmp_path / "aside")
    shutil.copytree(backup.newest(tmp_path / "kept"), tmp_path / "data")
    done = run("verify", "--full")
    assert done.exit_code == 1
    assert "ROLLED BACK" in done.stdout


def tables_of(output: str) -> list[str]:
    """Return the lines about each raw table."""
    return [f"raw/{part}" for part in output.split("\nraw/") if "system_log" in part]
