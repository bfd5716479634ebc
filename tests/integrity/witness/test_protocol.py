"""The answers of a witness, as https://c2sp.org/tlog-witness specifies them."""

import re
import threading
from base64 import b64encode
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.integrity import cosignatures, merkle, note
from pipelines.integrity.witness import state
from pipelines.integrity.witness.protocol import MAX_BYTES, Witness
from tests.integrity.witness.trees import Log

LOG_KEY, KEY = note.new_key("audit.example"), cosignatures.new_key("witness.example/w1")
LOG = Log(LOG_KEY)
FORK = Log(LOG_KEY, fork={3: "!"})


class Memory:
    """A state without a disk."""

    def __init__(self):
        self.trees, self.notes = {}, {}

    def newest(self, origin):
        return self.trees.get(origin)

    def origins(self):
        return sorted(self.trees)

    def keep(self, tree, note):
        self.trees[tree.origin], self.notes[state.name_of(tree.origin)] = tree, note

    def note(self, name):
        return self.notes.get(name)


def a_witness(at=1000, accepted=()):
    return Witness(KEY, [LOG_KEY.vkey], Memory(), lambda: at, accepted)


def added(witness, body):
    reply = witness.add_checkpoint(body)
    return reply.status, reply.body


def cosigned(witness, log, old, size):
    """Submit a checkpoint and check the cosignature; return the status."""
    status, body = added(witness, log.request(old, size))
    if status == 200:
        assert cosignatures.find(body, log.text(size), KEY.vkey).at == 1000
        assert body.endswith("\n")
    return status


def test_a_log_that_grows_is_cosigned_from_size_to_size():
    witness = a_witness()
    sizes = (0, 1, 1, 4, 7, 64, 100)
    assert [cosigned(witness, LOG, *pair) for pair in zip((0, *sizes), sizes, strict=False)] == (
        [200] * len(sizes)
    )


@given(st.integers(1, 40), st.integers(0, 40))
def test_every_growth_is_cosigned_and_no_fork(old, more):
    witness, forked = a_witness(), Log(LOG_KEY, fork={old - 1: "!"})
    assert cosigned(witness, LOG, 0, old) == 200
    assert added(witness, forked.request(old, old + more))[0] == 422
    assert cosigned(witness, LOG, old, old + more) == 200


def test_another_old_size_is_answered_with_the_size_seen():
    witness = a_witness()
    cosigned(witness, LOG, 0, 9)
    for old in (0, 3, 10):
        reply = witness.add_checkpoint(LOG.request(old, 12))
        assert (reply.status, reply.body) == (409, "9\n")
        assert reply.media == "text/x.tlog.size"


def test_a_smaller_tree_is_never_cosigned():
    witness = a_witness()
    cosigned(witness, LOG, 0, 9)
    assert added(witness, LOG.request(5, 5)) == (409, "9\n")
    smaller = b"old 9\n\n" + LOG.checkpoint(5)
    assert added(witness, smaller)[0] == 400


def test_an_unknown_log_is_not_found():
    for origin in ("else.example/okta/system_log/0123abcd", "audit.example.org/x", "audit.exampl"):
        assert added(a_witness(), Log(LOG_KEY, origin=origin).request(0, 3))[0] == 404
    assert cosigned(a_witness(), Log(LOG_KEY, origin="audit.example"), 0, 3) == 200


def test_a_checkpoint_counts_only_if_every_signature_of_a_known_key_is_valid():
    other = note.new_key("audit.example")
    assert added(a_witness(), LOG.request(0, 3, other))[0] == 403
    assert added(a_witness(), LOG.request(0, 3, other, LOG_KEY))[0] == 200
    of_another_text = note.signed(LOG.text(4), [LOG_KEY]).decode().splitlines()[-1]
    request = LOG.request(0, 3).decode() + of_another_text + "\n"
    assert added(a_witness(), request.encode())[0] == 403


def test_the_proof_must_be_right():
    witness = a_witness()
    hashed = b64encode(bytes(32)).decode()
    with_proof = LOG.request(0, 3).replace(b"old 0\n", f"old 0\n{hashed}\n".encode())
    assert added(witness, with_proof)[0] == 422
    cosigned(witness, LOG, 0, 5)
    request = LOG.request(5, 9).decode()
    lines = request.split("\n\n")[0].split("\n")[1:]
    assert len(lines) > 1
    for body in (
        request.replace(f"{lines[0]}\n", "", 1),
        request.replace(f"{lines[0]}\n", f"{lines[0]}\n{hashed}\n", 1),
        request.replace(lines[1], hashed, 1),
        LOG.request(5, 5).decode().replace("old 5\n", f"old 5\n{hashed}\n"),
        FORK.request(5, 5).decode(),
        FORK.request(5, 9).decode(),
    ):
        assert added(witness, body.encode())[0] == 422, body
    assert cosigned(witness, LOG, 5, 9) == 200


def test_an_empty_log_has_the_root_of_the_empty_tree():
    text = LOG.text(0).replace(b64encode(merkle.EMPTY).decode(), b64encode(bytes(32)).decode())
    assert added(a_witness(), b"old 0\n\n" + note.signed(text, [LOG_KEY]))[0] == 422


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda body: body.replace(b"old 0", b"old 00"),
        lambda body: body.replace(b"old 0", b"old -1"),
        lambda body: body.replace(b"old 0", b"new 0"),
        lambda body: body.replace(b"old 0", "old ٣".encode()),
        lambda body: body.replace(b"old 0\n", b"old 0\nx\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + b"A" * 43 + b"=\n" * 64),
        lambda body: body.replace(b"\n3\n", b"\n03\n"),
        lambda body: body.replace(b"\n3\n", b"\n3\r\n"),
        lambda body: body.removesuffix(b"\n"),
        lambda body: body + b"\n",
        lambda body: body + b"no signature\n",
        lambda body: body.rpartition(b"\n\n")[0],
    ],
)
def test_a_malformed_request_is_refused(change):
    assert added(a_witness(), change(LOG.request(0, 3)))[0] == 400


def test_further_lines_of_a_checkpoint_are_cosigned_with_it():
    text = LOG.text(3) + "more\n"
    status, body = added(a_witness(), b"old 0\n\n" + note.signed(text, [LOG_KEY]))
    assert status == 200
    assert cosignatures.find(body, text, KEY.vkey)


def test_of_one_table_only_the_first_log_is_known():
    """The holder of the key could otherwise show a second view under a new name."""
    second = Log(LOG_KEY, origin="audit.example/okta/system_log/mapped-89abcdef")
    witness = a_witness()
    cosigned(witness, LOG, 0, 3)
    status, body = added(witness, second.request(0, 3))
    assert status == 404
    assert LOG.origin in body
    other = Log(LOG_KEY, origin="audit.example/okta/other/89abcdef")
    assert cosigned(witness, other, 0, 3) == 200
    allowing = a_witness(accepted=[second.origin])
    cosigned(allowing, LOG, 0, 3)
    assert cosigned(allowing, second, 0, 3) == 200


class Meeting(Memory):
    """A state whose readers wait, for a moment, until two of them have read the same."""

    def __init__(self):
        super().__init__()
        self.both = threading.Barrier(2)

    def keep(self, tree, note):
        with suppress(threading.BrokenBarrierError):
            self.both.wait(0.3)
        super().keep(tree, note)


def test_of_two_requests_at_once_one_is_compared_with_the_other():
    """Of two views of a log, one is cosigned, although both requests arrive together."""
    witness, found = Witness(KEY, [LOG_KEY.vkey], Meeting(), lambda: 1000), []

    def submit(log):
        found.append(witness.add_checkpoint(log.request(0, 5)).status)

    threads = [threading.Thread(target=submit, args=(log,)) for log in (LOG, FORK)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200, 409]


def test_the_newest_checkpoint_is_shown_with_all_signatures():
    witness = a_witness()
    name = state.name_of(LOG.origin)
    assert witness.checkpoint(name).status == 404
    cosigned(witness, LOG, 0, 3)
    cosigned(witness, LOG, 3, 5)
    shown = witness.checkpoint(name)
    assert shown.status == 200
    assert note.opened(shown.body.encode(), [LOG_KEY.vkey]).size == 5
    assert cosignatures.find(shown.body, LOG.text(5), KEY.vkey)


def test_a_request_may_have_as_many_signatures_as_a_note():
    keys = [note.new_key(f"k{number}") for number in range(16)]
    body = LOG.request(0, 3, *keys, LOG_KEY)
    assert len(body) < MAX_BYTES
    assert added(a_witness(), body)[0] == 200
    assert re.fullmatch("\u2014 [^ ]+ [A-Za-z0-9+/=]+\n", added(a_witness(), body)[1])
