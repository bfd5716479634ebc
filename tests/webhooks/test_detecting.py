"""Rules are evaluated on pushed records, and hold up nobody."""

import logging
import threading
from functools import partial
from types import SimpleNamespace

import pytest

from pipelines import registry
from pipelines.detections.detector import Detector
from pipelines.errors import LakeError
from pipelines.extraction.report import Report
from pipelines.lake import tables
from pipelines.lake.tables import StreamKey
from pipelines.settings.detections import DetectionSettings
from pipelines.webhooks import server
from pipelines.webhooks.detecting import Detecting
from pipelines.webhooks.worker import Worker
from tests.detections.ruled import written
from tests.detections.watched import findings, rule, table
from tests.waiting import until
from tests.webhooks.conftest import source
from tests.webhooks.pushing import hook, put
from tests.webhooks.receiving import configured

OKTA = StreamKey("okta", "system_log")
STARTED = rule(1, {"eventType": "user.session.start"})


@pytest.fixture
def detecting(lake, tmp_path):
    chosen = DetectionSettings(rules=[written(tmp_path, STARTED)])
    return Detecting(detector=Detector(lake=lake, settings=chosen))


def push(lake, spool, detecting, *numbers):
    put(spool, hook(*numbers))
    push = source("okta").integration.push
    worker = Worker(
        lake=lake, source=source("okta"), spool=spool, push=push, on_report=detecting.landed
    )
    worker.run_once()
    assert worker.is_idle


def found(lake):
    return table(lake, "findings").height


def test_pushed_records_become_findings_once(lake, spool, detecting):
    push(lake, spool, detecting, 1, 2)
    assert detecting.run_once()
    push(lake, spool, detecting, 2, 3)
    assert detecting.run_once()
    assert findings(lake)["seq"].to_list() == [0, 1, 2]
    assert detecting.run_once()


def test_a_report_without_rows_wakes_nobody(detecting):
    detecting.landed(Report(integration="okta", stream="system_log"))
    assert not detecting._streams
    detecting.landed(Report(integration="okta", stream="system_log", events=1))
    assert detecting._streams == {OKTA}


class Broken:
    """Rules that cannot be evaluated until they are repaired."""

    def __init__(self, error, real):
        self.error, self.real = error, real

    def detect(self, keys):
        if self.error:
            raise self.error
        return self.real.detect(keys)


FAILURES = {
    LakeError("findings: cannot be written"): "findings: cannot be written",
    ValueError("a record of ada@example.com"): "unexpected error (ValueError in detect",
}


def test_a_failure_is_logged_and_the_streams_are_tried_again(lake, spool, detecting, caplog):
    detecting.detector = Broken(None, detecting.detector)
    push(lake, spool, detecting, 1)
    for error, said in FAILURES.items():
        detecting.detector.error = error
        with caplog.at_level(logging.WARNING):
            assert not detecting.run_once()
        assert said in caplog.text
    assert "ada@example.com" not in caplog.text
    detecting.detector.error = None
    assert detecting.run_once()
    assert findings(lake).height == 1


def test_a_thread_evaluates_what_lands_and_ends_when_it_is_stopped(lake, spool, detecting):
    with detecting.running():
        push(lake, spool, detecting, 1)
        until(lambda: found(lake) == 1, "a finding")
    push(lake, spool, detecting, 2)
    assert findings(lake).height == 1


class Stop(threading.Event):
    """Ends the work instead of a pause, and notes how long that would have been."""

    def wait(self, timeout=None):
        self.pause = timeout
        self.set()
        return True


@pytest.mark.parametrize(("took", "pause"), [(0.25, 1.0), (10.0, 2.0)])
def test_an_evaluation_is_followed_by_a_pause(detecting, monkeypatch, took, pause):
    clock = SimpleNamespace(monotonic=partial(next, iter([100.0, 100.0 + took])))
    monkeypatch.setattr("pipelines.webhooks.detecting.time", clock)
    detecting._stopped = Stop()
    detecting.add([])
    detecting.run()
    assert detecting._stopped.pause == pause


def test_the_receiver_evaluates_what_was_left_and_what_is_pushed(tmp_path, monkeypatch):
    chosen = configured(tmp_path, 0, written(tmp_path, STARTED))
    lake = tables.configured(chosen)
    spool = server.configured_spool(chosen, lake)
    with spool.open():
        push(lake, spool, Detecting(detector=None), 1)
        put(spool, hook(2))

    def run(_server):
        until(lambda: found(lake) == 2, "two findings")

    monkeypatch.setattr(server.uvicorn.Server, "run", run)
    monkeypatch.setattr(server.signal, "signal", lambda *_: None)
    server.serve(chosen, lake, registry.sources(chosen), lambda _: None)
    assert findings(lake)["kind"].to_list() == ["okta", "okta"]
