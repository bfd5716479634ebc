"""Checkpoints kept outside the lake: found where they are, and damage is reported, not raised."""

import json
import subprocess
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from pipelines.integrity import note
from pipelines.integrity.note import Head
from pipelines.integrity.verifier import known_checkpoints
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.settings import Anchor

KEY = note.new_key("auditlake")
ORIGIN = "auditlake/okta/system_log/1"
FOLDERS = ["auditlake/okta/system_log"]


def signed(size, origin=ORIGIN):
    return note.signed(Head(origin=origin, size=size, root=b"r" * 32).text, [KEY])


def anchor_of(tmp_path, *heads):
    """A directory that received these (origin, size), each with its checkpoint."""
    root = tmp_path / "worm"
    root.mkdir(exist_ok=True)
    for origin, size in heads:
        (root / origin).mkdir(parents=True, exist_ok=True)
        (root / origin / f"{size:020}").write_bytes(signed(size, origin))
    return Anchor(directory=root)


def remember(tmp_path, *lines, table="raw.okta.system_log"):
    (tmp_path / "signed").mkdir(exist_ok=True)
    (tmp_path / "signed" / f"{table}.ndjson").write_bytes(b"\n".join(lines))


def line(size):
    root = b64encode(b"r" * 32).decode()
    return json.dumps({"origin": ORIGIN, "size": size, "root": root}).encode()


def test_the_newest_whole_line_of_the_local_record_counts(tmp_path):
    remember(tmp_path, line(100), line(200), b'{"origin": "audit', b"{}", b"")
    (found,) = known_checkpoints.remembered(tmp_path, "raw/okta/system_log")
    assert (found.head.size, found.head.root, found.note) == (200, b"r" * 32, None)


@pytest.mark.parametrize("lines", [[], [b""], [b"{"], [b"{}", b"\0\0"]])
def test_a_record_without_a_whole_line_is_empty(tmp_path, lines):
    remember(tmp_path, *lines)
    assert known_checkpoints.remembered(tmp_path, "raw/okta/system_log") == []
    assert known_checkpoints.remembered(tmp_path, "raw/okta/other_log") == []


def test_a_note_is_parsed_without_checking_who_signed_it():
    found = known_checkpoints.sighting(signed(7), "there")
    assert isinstance(found, KnownCheckpoint)
    assert (found.head.size, found.where, found.note) == (7, "there", signed(7).decode())


@pytest.mark.parametrize("odd", [b"", b"\xff\xfe", b"hello\n", signed(7)[:20], b"a\n-1\nx\n"])
def test_text_that_is_no_checkpoint_is_reported_with_its_place(odd):
    found = known_checkpoints.sighting(odd, "anchor/file")
    assert isinstance(found, Unavailable)
    assert found.where == "anchor/file"
    assert found.reason


def test_all_checkpoints_of_the_log_from_a_size_on_are_returned(tmp_path):
    anchor = anchor_of(tmp_path, *((ORIGIN, size) for size in (100, 200, 300)))
    found = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN, 200)
    assert [seen.head.size for seen in found] == [200, 300]
    assert found[0].where == f"{anchor.name}/{ORIGIN}/{200:020}"


def test_of_any_other_log_of_the_table_only_the_newest_checkpoint_is_returned(tmp_path):
    former = "auditlake/okta/system_log/0"
    anchor = anchor_of(
        tmp_path, (ORIGIN, 100), (former, 5), (former, 50), ("auditlake/okta/other_log/1", 9)
    )
    found = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN)
    assert sorted((seen.head.origin, seen.head.size) for seen in found) == [
        (former, 50),
        (ORIGIN, 100),
    ]
    without = known_checkpoints.anchored(anchor, FOLDERS, None)
    assert sorted(seen.head.size for seen in without) == [50, 100]


def test_a_file_that_is_no_checkpoint_hides_none_of_the_others(tmp_path):
    anchor = anchor_of(tmp_path, (ORIGIN, 100), (ORIGIN, 200))
    (anchor.directory / ORIGIN / f"{150:020}").write_bytes(b"garbage")
    (anchor.directory / ORIGIN / "readme.txt").write_bytes(b"hello")
    found = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN, 100)
    assert [seen.head.size for seen in found if isinstance(seen, KnownCheckpoint)] == [100, 200]
    assert sum(isinstance(seen, Unavailable) for seen in found) == 2


@pytest.mark.parametrize("kind", ["directory", "git", "url"])
def test_an_anchor_out_of_reach_is_reported_and_raises_no_error(tmp_path, kind):
    place = {"url": "http://127.0.0.1:1"}.get(kind, tmp_path / "gone")
    anchor = Anchor(**{kind: place})
    (seen,) = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN)
    assert isinstance(seen, Unavailable)
    assert seen.where == anchor.name
    assert known_checkpoints.logs(tmp_path, "auditlake", [anchor]) == set()


def git(clone, *arguments):
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    subprocess.run(("/usr/bin/env", "git", *who, *arguments), cwd=clone, check=True)


def test_checkpoints_are_read_from_git_also_after_their_files_were_removed(tmp_path):
    anchor_of(tmp_path, (ORIGIN, 100), (ORIGIN, 200), ("auditlake/okta/other_log/1", 9))
    clone = tmp_path / "worm"
    git(clone, "init", "-q")
    for size in (300, 400):
        git(clone, "add", ".")
        git(clone, "commit", "-q", "-m", "checkpoints")
        anchor_of(tmp_path, (ORIGIN, size))
    git(clone, "rm", "-q", "-r", "auditlake")
    git(clone, "commit", "-q", "-m", "nothing to see here")
    anchor = Anchor(git=clone)
    found = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN, 200)
    assert {seen.head.size: seen.note for seen in found} == {
        size: signed(size).decode() for size in (200, 300)
    }
    logs = known_checkpoints.logs(tmp_path, "auditlake", [anchor])
    assert logs == {"okta/system_log", "okta/other_log"}


@pytest.fixture
def latest():
    """An anchor with a URL, and the answers it gives by path."""
    answers = {}

    class Place(BaseHTTPRequestHandler):
        def do_GET(self):
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Place) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Anchor(url=f"http://127.0.0.1:{server.server_port}/x"), answers
        server.shutdown()
        thread.join()


def test_of_a_url_the_latest_checkpoint_of_the_log_is_read(latest):
    anchor, answers = latest
    assert known_checkpoints.anchored(anchor, FOLDERS, ORIGIN) == []
    answers[f"/x/{ORIGIN}/latest"] = signed(300)
    (found,) = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN)
    assert (found.head.size, found.note) == (300, signed(300).decode())
    assert known_checkpoints.anchored(anchor, FOLDERS, None) == []
    for size, reason in ((16_384, "not a checkpoint"), (16_385, "too large for a checkpoint")):
        answers[f"/x/{ORIGIN}/latest"] = b"x" * size
        (found,) = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN)
        assert reason in found.reason


def test_logs_are_known_from_the_local_record_and_from_anchors(tmp_path):
    remember(tmp_path, line(1))
    remember(tmp_path, line(1), table="raw.acts")
    anchor = anchor_of(tmp_path, ("auditlake/entra_id/audits/1", 1), ("someone/else/here/1", 1))
    found = known_checkpoints.logs(tmp_path, "auditlake", [anchor])
    assert found == {"okta/system_log", "entra_id/audits"}


def test_the_secret_of_an_anchor_stays_out_of_the_report(tmp_path):
    anchor = Anchor(url="http://127.0.0.1:1", token="s3cret-token")
    (seen,) = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN)
    assert "s3cret" not in f"{seen}"
    assert httpx.ConnectError.__name__ in seen.reason


@pytest.mark.parametrize(
    "odd",
    [b"7", b"[]", b'"x"', b"[" * 50_000, line(-1), line("1"), line(None), line(2**63), line(1.5),
     line(300).replace(b"r", b"*"), line(300).replace(b"=", b""), line(300).replace(b"/", b"\\n/")],
)  # fmt: skip
def test_a_damaged_line_of_the_local_record_is_passed_over(tmp_path, odd):
    remember(tmp_path, line(200), odd)
    (found,) = known_checkpoints.remembered(tmp_path, "raw/okta/system_log")
    assert found.head.size == 200


def test_a_file_name_of_digits_that_are_not_ascii_is_read_like_any_other(tmp_path):
    anchor = anchor_of(tmp_path, (ORIGIN, 300))
    for name in ("\u0663", "9" * 200):
        (tmp_path / "worm" / ORIGIN / name).write_bytes(signed(100))
    found = known_checkpoints.anchored(anchor, FOLDERS, ORIGIN, 200)
    assert sorted(seen.head.size for seen in found) == [100, 100, 300]
