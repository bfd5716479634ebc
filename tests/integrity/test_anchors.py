"""Anchors: every checkpoint is delivered eventually, once, and read back."""

import http.server
import shutil
import subprocess
import threading

import pytest

from pipelines.errors import ConfigurationError
from pipelines.integrity import anchors
from pipelines.settings import Anchor, Settings, validated
from tests.integrity.worlds import Signed


def delivered(world):
    anchors._background.submit(lambda: None).result()  # wait for background deliveries
    return anchors.deliver(world.place.memory, world.integrity)


def sizes(world, seen):
    verdict = world.verify(full=True)
    assert verdict.ok, verdict.findings
    return sum(seen in where for where in verdict.compared_with)


def test_a_directory_receives_every_checkpoint(tmp_path):
    (tmp_path / "worm").mkdir()
    world = Signed(tmp_path, {"anchors": (Anchor(directory=tmp_path / "worm"),)}).fill(300)
    assert delivered(world) == []
    assert sizes(world, "worm") == 3
    assert len([path for path in (tmp_path / "worm").rglob("*") if path.is_file()]) == 3


def test_undeliverable_checkpoints_wait_in_the_outbox(tmp_path):
    world = Signed(tmp_path, {"anchors": (Anchor(directory=tmp_path / "worm"),)}).fill(300)
    (fault,) = delivered(world)
    assert "mount it" in fault
    assert len(anchors.waiting(world.place.memory, world.integrity.anchors[0])) == 3
    assert "worm" in world.verify().notes[0]
    (tmp_path / "worm").mkdir()
    assert delivered(world) == []
    assert sizes(world, "worm") == 3


def test_what_another_delivery_has_sent_meanwhile_is_no_fault(tmp_path, monkeypatch, caplog):
    (tmp_path / "worm").mkdir()
    world = Signed(tmp_path, {"anchors": (Anchor(directory=tmp_path / "worm"),)}).fill(100)
    found = anchors.waiting
    monkeypatch.setattr(anchors, "waiting", lambda *given: [tmp_path / "sent", *found(*given)])
    assert delivered(world) == []
    assert not caplog.records
    assert sizes(world, "worm") == 1


def test_a_conflicting_checkpoint_at_an_anchor_is_reported_and_not_overwritten(tmp_path):
    (tmp_path / "worm").mkdir()
    world = Signed(tmp_path, {"anchors": (Anchor(directory=tmp_path / "worm"),)}).fill(100)
    delivered(world)
    (note,) = (path for path in (tmp_path / "worm").rglob("*") if path.is_file())
    note.write_text(note.read_text().replace("\n100\n", "\n101\n"))
    anchors.post(world.place.memory, world.integrity, *head_and_note(world))
    (fault,) = delivered(world)
    assert "different root" in fault


def head_and_note(world):
    from pipelines.integrity import signer

    kept = signer.of(world.lake, "okta/system_log")
    return signer.published(kept), kept.folder.get("checkpoint")


@pytest.fixture
def clone(tmp_path):
    """A clone whose commits are pushed to a bare repository elsewhere."""
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    git(tmp_path, "clone", "-q", "remote.git", "clone")
    clone = tmp_path / "clone"
    git(clone, "config", "user.name", "auditlake")
    git(clone, "config", "user.email", "auditlake@example.com")
    git(clone, "commit", "-q", "--allow-empty", "-m", "begin")
    git(clone, "push", "-q", "-u", "origin", "HEAD")
    return clone


def git(folder, *arguments):
    done = subprocess.run(
        ("/usr/bin/env", "git", *arguments), cwd=folder, check=True, capture_output=True
    )
    return done.stdout.decode()


def test_a_repository_receives_every_checkpoint_and_loses_none(tmp_path, clone):
    world = Signed(tmp_path, {"anchors": (Anchor(git=clone),)}).fill(300)
    assert delivered(world) == []
    assert sizes(world, "clone") == 3
    pushed = git(tmp_path / "remote.git", "ls-tree", "-r", "--name-only", "HEAD").split()
    assert len(pushed) == 3
    git(clone, "rm", "-q", "-r", ".")
    git(clone, "commit", "-q", "-m", "nothing to see here")
    assert sizes(world, "clone") == 3


class Place(http.server.BaseHTTPRequestHandler):
    """A service that stores PUT bodies and honours If-None-Match."""

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.headers.get("If-None-Match") and self.path in self.server.held
        if not taken:
            self.server.held[self.path] = data
        self.answer(503 if self.server.down else 412 if taken else 201)

    def do_GET(self):
        held = self.server.held.get(self.path)
        self.answer(404 if held is None else 200, held or b"")

    def answer(self, status, data=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Place)
    server.held, server.down = {}, False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_receives_every_checkpoint_and_the_latest_one(tmp_path, service):
    url = f"http://127.0.0.1:{service.server_port}/anchors"
    world = Signed(tmp_path, {"anchors": (Anchor(url=url),)})
    service.down = True
    world.fill(200)
    assert "503" in delivered(world)[0]
    service.down = False
    assert delivered(world) == []
    assert len(service.held) == 3
    assert sizes(world, "latest") == 1
    shutil.copytree(world.folder / "lake", world.folder / "copy")
    world.land(*range(200, 250), day=3)
    assert delivered(world) == []
    shutil.rmtree(world.folder / "lake")
    (world.folder / "copy").rename(world.folder / "lake")
    shutil.rmtree(world.place.memory)
    assert world.verify().first_bad.kind == "rolled back"


def test_a_bucket_receives_every_checkpoint(tmp_path):
    (tmp_path / "bucket").mkdir()
    world = Signed(tmp_path, {"anchors": (Anchor(bucket=f"file://{tmp_path}/bucket"),)}).fill(300)
    assert delivered(world) == []
    assert sizes(world, "bucket") == 3


def test_an_anchor_has_exactly_one_destination(tmp_path):
    for anchor in ({}, {"directory": "x", "git": "y"}, {"url": "http://example.com"}):
        with pytest.raises(ConfigurationError, match="anchors"):
            validated(Settings, {"integrity": {"anchors": [anchor]}}, "auditlake.toml")
