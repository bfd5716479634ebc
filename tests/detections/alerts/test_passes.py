"""A pass queues, checks and delivers; a step that fails ends no other."""

import pytest

from pipelines.clock import utc_now
from pipelines.detections.alerts import passes
from pipelines.errors import LakeError
from pipelines.settings import Settings
from tests.detections.alerts.world import (
    MINUTE,
    NOW,
    finding,
    hook,
    land,
    receiving,
    settings,
    states,
)


def test_without_receivers_nothing_is_written(lake):
    assert passes.pass_once(Settings(), lake, NOW) == passes.Pass()


def test_a_pass_queues_and_delivers_and_reports_life(lake):
    land(lake, finding())
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)}, heartbeat=f"{server.url}/ping?x=1")
        assert passes.is_due(chosen, lake, utc_now())
        done = passes.pass_once(chosen, lake, NOW)
        assert (done.queued, [one.state for one in done.sent]) == (1, ["sent"])
        assert (done.heartbeat, done.errors) == ("200", [])
        assert not passes.is_due(chosen, lake, utc_now())
        land(lake, finding("next"))
        assert passes.is_due(chosen, lake, utc_now())
        again = passes.pass_once(chosen, lake, NOW + MINUTE)
    assert (again.queued, again.sent, again.heartbeat) == (1, [], None)
    assert [each.path for each in server.got] == ["/", "/ping?x=1"]
    assert [each.state for each in passes.unsent(lake, NOW)] == ["held"]


def test_after_an_error_the_rest_is_done_but_life_is_not_reported(lake, monkeypatch, caplog):
    def fail(*_):
        raise LakeError("events: no space left")

    land(lake, finding())
    monkeypatch.setattr(passes.health, "problems", fail)
    with receiving() as server:
        chosen = settings({"hook": hook(server.url)}, heartbeat=f"{server.url}/ping")
        done = passes.pass_once(chosen, lake, NOW)
        # Nor by the next pass, for which the check is due again.
        assert passes.pass_once(chosen, lake, NOW + MINUTE).errors == done.errors
    assert done.errors == ["events: no space left"]
    assert states(lake) == [("hook", "findings", 0, "sent")]
    assert [each.path for each in server.got] == ["/"]
    assert "no space left" in caplog.text


@pytest.mark.parametrize("kind", ["webhook", "slack"])
def test_no_secret_is_in_the_tables_the_log_or_a_repr(lake, kind, caplog, capfd):
    land(lake, finding())
    caplog.set_level(0)
    with receiving() as server:
        receivers = {"webhook": hook, "slack": lambda url: {"kind": "slack", "url": url}}
        away, there = (f"{url}/s3cr3t-path" for url in ("http://127.0.0.1:9", server.url))
        both = {"away": receivers[kind](away), "there": receivers[kind](there)}
        chosen = settings(both, heartbeat=f"{server.url}/s3cr3t-beat")
        done = passes.pass_once(chosen, lake, NOW)
    shown = repr(done) + repr(chosen) + repr(states(lake)) + caplog.text
    shown += "".join(capfd.readouterr())
    for path in lake.local.rglob("*"):
        shown += path.read_bytes().decode("latin-1") if path.is_file() else ""
    assert "s3cr3t" not in shown
    assert "c2lnbmluZy" not in shown
    assert sorted(one.state for one in done.sent) == ["failed", "sent"]
    assert done.heartbeat == "200"
