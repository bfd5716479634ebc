"""The command that runs a witness, as a process of its own."""

import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import httpx

from pipelines.cli import witness
from pipelines.integrity import cosignatures, note
from tests.cli.command import PROJECT, run
from tests.integrity.witness.trees import Log
from tests.waiting import free_ports, until

LOG = Log(note.new_key("audit.example"))


@contextmanager
def process(folder, port, *options):
    """Run the command; yield (process, address, public key)."""
    command = [sys.executable, "-m", "pipelines", "witness", "--key", "w.key", "--state", "seen"]
    command += ["--log", LOG.key.vkey, "--listen", f"127.0.0.1:{port}", *options]
    environment = {**os.environ, "PYTHONPATH": PROJECT}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            vkey = child.stdout.readline().strip()
            until(lambda: listens(port) or child.poll() is not None, "a witness")
            yield child, f"http://127.0.0.1:{port}", vkey
        finally:
            child.kill()


def listens(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").status_code == 404
    except httpx.TransportError:
        return False


def added(address, body):
    found = httpx.post(f"{address}/add-checkpoint", content=body)
    return found.status_code, found.text


def test_a_witness_makes_its_key_and_remembers_after_kill_9(tmp_path):
    (port,) = free_ports(1)
    with process(tmp_path, port, "--name", "witness.example/w1") as (child, address, vkey):
        status, line = added(address, LOG.request(0, 9))
        assert status == 200
        assert cosignatures.find(line, LOG.text(9), vkey)
        child.send_signal(signal.SIGKILL)
    assert stat.S_IMODE((tmp_path / "w.key").stat().st_mode) == 0o600
    with process(tmp_path, port) as (child, address, again):
        assert again == vkey
        assert added(address, LOG.request(0, 5)) == (409, "9\n")
        assert added(address, LOG.request(9, 12))[0] == 200
        child.terminate()
        assert child.wait(60) == 0


def test_a_witness_that_cannot_be_started_explains_why(tmp_path):
    key, seen = str(tmp_path / "w.key"), str(tmp_path / "seen")

    def refused(*options, key=key):
        done = run(tmp_path, "witness", "--key", key, "--state", seen, *options)
        assert done.exit_code == 2
        return done.output

    log = ("--log", LOG.key.vkey)
    assert "pass its public key with --log" in refused()
    assert "give the witness a name with --name" in refused(*log)
    assert "no name of a witness" in refused(*log, "--name", "a b")
    assert "give HOST:PORT" in refused(*log, "--listen", "8780")
    (tmp_path / "w.key").write_text(f"{cosignatures.new_key('w').secret}\n")
    (tmp_path / "w.key").chmod(0o644)
    assert "readable by others" in refused(*log)
    (tmp_path / "w.key").chmod(0o600)
    assert "restore the state" in refused(*log)
    (tmp_path / "seen").mkdir()
    assert "is not a verifier key" in refused("--log", "x")
    (tmp_path / "w.key").write_text("x")
    assert "not the key of a witness" in refused(*log)


def test_a_key_is_never_made_again(tmp_path):
    made = witness._key(tmp_path / "w.key", tmp_path / "seen", "w")
    (tmp_path / "seen").mkdir()
    assert witness._key(tmp_path / "w.key", tmp_path / "seen", "other").vkey == made.vkey
