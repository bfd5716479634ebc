"""Generated records depend on the options alone."""

from __future__ import annotations

from sandbox import server
from sandbox.server import Options, Running
from tests.sandbox.okta_reader import (
    ledger,
)
from tests.sandbox.setups import ANCHOR, SMALL, Clock


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(box: Running) -> None:
    assert ledger(box) == server.Sandbox(SMALL, Clock()).ledger("okta", "system_log")
    other = server.Sandbox(Options(seed=8, days=20, per_day=60, anchor=ANCHOR), Clock())
    mine = {entry.sha256 for entry in ledger(box)}
    assert not mine & {entry.sha256 for entry in other.ledger("okta", "system_log")}


def test_live_records_do_not_depend_on_when_they_are_read() -> None:
    options = Options(seed=7, days=1, per_day=10, rate=2, anchor=ANCHOR)
    often, once = Clock(), Clock()
    watched, unwatched = server.Sandbox(options, often), server.Sandbox(options, once)
    for _ in range(40):
        often.pass_by(seconds=15)
        watched.log("okta", "system_log").visible()
    once.pass_by(seconds=600)
    found = unwatched.ledger("okta", "system_log")
    assert watched.ledger("okta", "system_log") == found
    live = [entry for entry in found if entry.time >= ANCHOR.isoformat()]
    # The stream gets its share of the rate, and records of the last seconds have yet to arrive.
    assert 0 < len(live) <= 1250
