"""A lake in an object store is signed and verified like one on disk."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import files, prove, retention, signer
from pipelines.integrity.signer import Alarm
from pipelines.integrity.verifier import audit, diagnosis, known_checkpoints
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.settings import Anchor
from tests.integrity.test_retention import REMOVAL
from tests.integrity.worlds import LOG, NOON, Signed
from tests.waiting import free_ports


class Stored(Signed):
    """A lake with a URL as its root, so all access goes through the object store interface."""

    @property
    def lake(self):
        return Lake(f"file://{self.folder}/lake", None, self.integrity)


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path).fill(300)


def test_it_is_signed_and_verified(stored):
    assert stored.lake.local is None
    verdict = stored.verify()
    assert (verdict.ok, verdict.read, verdict.events) == (True, 300, 300)
    assert len(diagnosis.history(stored.place.shelf(LOG.app))) == 3


def test_proofs_and_retention_work(stored):
    proof = prove.prove(stored.lake, "raw/okta/system_log/257")
    assert audit.check_proof(proof, stored.vkeys()).size == 300
    stored.land(*range(300, 350), day=1)
    retention.remove(stored.lake, REMOVAL, NOON)
    assert stored.verify(full=True).removed == 300


def test_a_rollback_raises_an_alarm(stored):
    handle = tables.open_table(stored.lake, LOG.table)
    handle.restore(2)
    with pytest.raises(Alarm):
        signer.sign(stored.lake, LOG, 200, NOON)
    assert stored.verify().first_bad.kind == "truncated"


REFUSED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Refusing(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(403)
        self.send_header("Content-Length", str(len(REFUSED)))
        self.end_headers()
        self.wfile.write(REFUSED)

    do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def refusing():
    """The options of a store on plain http that refuses every request."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield options(server.server_address[1])
        server.shutdown()


def options(port):
    return {
        "aws_access_key_id": "id",
        "aws_secret_access_key": "secret",
        "aws_region": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "allow_http": "true",
        "timeout": "20s",
        "max_retries": "1",
        "aws_s3_allow_unsafe_rename": "true",
    }


@pytest.mark.parametrize("name", ["allow_http", "aws_allow_http", "AWS_ALLOW_HTTP"])
def test_options_of_the_http_client_reach_a_store_on_plain_http(refusing, name):
    theirs = {key: value for key, value in refusing.items() if key != "allow_http"} | {name: "true"}
    with pytest.raises(LakeError, match=r"AccessDenied|403"):
        files.bucket("s3://bucket/lake", theirs).get("checkpoint")


@pytest.mark.parametrize(
    "use",
    [
        lambda folder: folder.get("a"),
        lambda folder: folder.put("a", b""),
        lambda folder: folder.swap("a", b"", None),
        lambda folder: folder.swap("a", b"", b"old"),
        lambda folder: folder.names("a"),
        lambda folder: folder.delete(["a"]),
    ],
)
def test_an_error_of_a_store_is_one_line_that_names_the_settings(refusing, use):
    with pytest.raises(LakeError) as found:
        use(files.bucket("s3://bucket/lake", refusing))
    assert str(found.value).startswith("s3://bucket/lake: ")
    assert "\n" not in str(found.value)
    assert "Debug source" not in str(found.value)
    assert "check lake.root and lake.storage_options" in str(found.value)
    assert "secret" not in str(found.value)


def test_a_store_that_nobody_serves_is_one_line_too():
    (port,) = free_ports(1)
    with pytest.raises(LakeError, match="storage_options") as found:
        files.bucket("s3://bucket/lake", options(port)).get("checkpoint")
    assert "\n" not in str(found.value)


def test_the_verifier_reports_an_error_of_a_store_in_one_line(refusing):
    shelf = LogFiles(root="s3://bucket/lake", options=refusing)
    for use in (lambda: shelf.read("checkpoint"), shelf.files, shelf.pairs):
        with pytest.raises(LakeError, match=r"check lake\.root"):
            use()


def test_an_option_that_nobody_knows_is_named():
    with pytest.raises(LakeError, match="aws_acces_key"):
        files.bucket("s3://bucket/lake", {"aws_acces_key": "id"})


def test_an_anchor_that_refuses_is_unavailable(refusing):
    anchor = Anchor(bucket="s3://bucket/kept", storage_options=refusing)
    (seen,) = known_checkpoints.anchored(anchor, ["auditlake/okta/system_log"], None)
    assert "AccessDenied" in seen.reason or "403" in seen.reason
    assert known_checkpoints.logs(Path("nowhere"), "auditlake", [anchor]) == set()
