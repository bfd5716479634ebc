"""The witness over HTTP: exact answers, and limits on what a request may use."""

import socket

import httpx
import pytest

from pipelines.integrity import cosignatures, note
from pipelines.integrity.witness import protocol, state
from tests.integrity.witness.trees import Log
from tests.integrity.witnessing import serving

LOG = Log(note.new_key("audit.example"))


@pytest.fixture
def witness(tmp_path):
    with serving(tmp_path / "state", [LOG.key.vkey]) as chosen:
        yield chosen


def post(witness, body, **options):
    return httpx.post(f"{witness.url}/add-checkpoint", content=body, **options)


def test_a_checkpoint_is_cosigned_and_shown(witness):
    added = post(witness, LOG.request(0, 3))
    assert added.status_code == 200
    assert cosignatures.find(added.text, LOG.text(3), witness.key)
    shown = httpx.get(f"{witness.url}/{state.name_of(LOG.origin)}/checkpoint")
    assert shown.status_code == 200
    assert shown.text == LOG.checkpoint(3).decode() + added.text
    assert httpx.get(f"{witness.url}/{'0' * 64}/checkpoint").status_code == 404


def test_another_size_is_answered_in_the_type_of_a_size(witness):
    post(witness, LOG.request(0, 3))
    found = post(witness, LOG.request(0, 4))
    assert (found.status_code, found.content) == (409, b"3\n")
    assert found.headers["Content-Type"] == "text/x.tlog.size"


def test_other_methods_paths_and_large_bodies_are_refused(witness):
    assert httpx.get(f"{witness.url}/add-checkpoint").status_code == 405
    assert httpx.post(f"{witness.url}/sign-subtree").status_code == 404
    assert post(witness, b"x" * (protocol.MAX_BYTES + 1)).status_code == 413
    parts = (b"x" * 1024 for _ in range(1024))  # announces no length
    assert post(witness, parts).status_code == 413
    assert post(witness, LOG.request(0, 3), headers={"Origin": "null"}).status_code == 403
    assert post(witness, LOG.request(0, 3)).status_code == 200


def test_a_head_that_never_ends_keeps_nobody_waiting(witness):
    address = (httpx.URL(witness.url).host, httpx.URL(witness.url).port)
    slow = [socket.create_connection(address) for _ in range(80)]
    try:
        for each in slow:
            each.sendall(b"POST /add-checkpoint HTTP/1.1\r\n")
        assert post(witness, LOG.request(0, 3)).status_code == 200
    finally:
        for each in slow:
            each.close()


def test_nothing_is_cosigned_that_cannot_be_stored(witness, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    post(witness, LOG.request(0, 3))
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.disk.write_atomically", full)
        refused = post(witness, LOG.request(3, 5))
    assert (refused.status_code, b"\xe2\x80\x94" in refused.content) == (503, False)
    assert post(witness, LOG.request(3, 4)).status_code == 200
