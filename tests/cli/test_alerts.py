"""The commands for alerts."""

import json

import pytest

from pipelines.clock import utc_now
from pipelines.lake.tables import Lake
from tests.cli.command import run
from tests.detections.alerts.world import SECRET, finding, land, receiving


@pytest.fixture
def configured(tmp_path):
    """Write a configuration with these receivers (name -> address), and return its lake."""

    def write(**receivers):
        text = f'[lake]\nroot = "{tmp_path}/data"\n'
        for name, url in receivers.items():
            text += f'[alerts.receivers.{name}]\nkind = "webhook"\nurl = "{url}"\n'
            text += f'secret = "{SECRET}"\n'
        (tmp_path / "auditlake.toml").write_text(text)
        return Lake(f"{tmp_path}/data")

    return write


def texts(result):
    return result.exit_code, " ".join(result.output.split())


def test_send_prints_what_was_done(tmp_path, configured):
    with receiving() as server:
        land(configured(hook=server.url), finding(time=utc_now(), title="Granted\u202e"))
        code, output = texts(run(tmp_path, "alerts", "send"))
        assert code == 0
        assert "hook: sent: Granted[U+202E] (200)" in output
        assert "1 queued, 1 tried" in output
        assert "0 queued, 0 tried" in run(tmp_path, "alerts", "send").output
    assert "all alerts of the last 14 days" in run(tmp_path, "alerts", "list").output


def test_test_prints_the_answer_of_each_receiver(tmp_path, configured):
    with receiving() as server:
        configured(good=server.url, away="http://127.0.0.1:9")
        code, output = texts(run(tmp_path, "alerts", "test"))
        assert (code, len(server.got)) == (1, 1)
        assert "good webhook accepted 200" in output
        assert "away webhook failed ConnectError" in output
        assert run(tmp_path, "alerts", "test", "good").exit_code == 0
    assert json.loads(server.got[0].body)["type"] == "test"
    assert not (tmp_path / "data").exists()


def test_list_shows_what_waits_and_what_is_dead(tmp_path, configured):
    with receiving(lambda _: (410, {}, b"")) as server:
        lake = configured(gone=server.url, away="http://127.0.0.1:9")
        land(lake, finding(time=utc_now()))
        run(tmp_path, "alerts", "send")
    code, output = texts(run(tmp_path, "alerts", "list"))
    assert code == 0
    assert "gone findings dead 1" in output
    assert "away findings failed 1" in output
    assert "ConnectError" in output
    found = json.loads(run(tmp_path, "alerts", "list", "--json").output)
    assert {each["state"] for each in found} == {"dead", "failed"}


def test_an_unknown_receiver_and_no_receiver_are_errors(tmp_path, configured):
    configured(hook="http://127.0.0.1:9")
    result = run(tmp_path, "alerts", "test", "other")
    assert (result.exit_code, "use one of hook" in result.output) == (2, True)
    configured()
    assert run(tmp_path, "alerts", "send").exit_code == 2


def test_resend_queues_what_is_dead(tmp_path, configured):
    with receiving(lambda _: (410, {}, b"")) as server:
        lake = configured(gone=server.url)
        land(lake, finding(time=utc_now()), finding("two", entity="b", time=utc_now()))
        run(tmp_path, "alerts", "send")
        dead = json.loads(run(tmp_path, "alerts", "list", "--json").output)
        assert "2 alerts could not be delivered" in run(tmp_path, "status").output
        assert 'undelivered_alerts{receiver="gone"} 2.0' in run(tmp_path, "metrics").output
        id_ = dead[0]["delivery"][:12]
        code, output = texts(run(tmp_path, "alerts", "resend", id_))
        assert code == 0
        assert f"{id_}: to gone, was dead: 410" in output
        assert "1 queued again" in output
        server.reply = lambda _: (200, {}, b"")
        assert "1 queued again" in run(tmp_path, "alerts", "resend", "--all").output
        assert "sent again on request" in run(tmp_path, "alerts", "list").output
        assert "0 queued, 2 tried" in run(tmp_path, "alerts", "send").output
    assert "0 queued again" in run(tmp_path, "alerts", "resend", "--all").output
    assert run(tmp_path, "alerts", "resend").exit_code == 2
    assert run(tmp_path, "alerts", "resend", "abcdef").exit_code == 2
    configured(other=server.url)
    assert run(tmp_path, "alerts", "resend", "--all").exit_code == 0
