"""The first differing row is located, and the signed leaves show how it was changed."""

import json

import pytest

from pipelines.integrity import merkle, note, tiles
from pipelines.integrity.files import Disk
from pipelines.integrity.verifier import diagnosis, rows
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.integrity.verifier.proofs import Checkpoint
from pipelines.integrity.verifier.tree import LeafBuffer, Tree

SIZE = 600
KEY = note.new_key("auditlake")
ORIGIN = "auditlake/okta/log/1"


def entry(number):
    return f"auditlake/1\ndigest{number}\n{number}\n{number}\npoll\nid-{number}".encode()


def fields(number):
    return [f"digest{number}", str(number), str(number), "poll", f"id-{number}"]


class Log:
    """A signed log of SIZE entries on disk, with a checkpoint every 200 rows."""

    def __init__(self, folder):
        self.folder, edge = folder, ()
        disk, self.heads = Disk(folder), []
        for first in range(0, SIZE, 200):
            entries = [entry(number) for number in range(first, first + 200)]
            edge, changed = merkle.grown(edge, first, [merkle.leaf(each) for each in entries])
            tiles.write(disk, changed)
            tiles.write_entries(disk, first, entries)
            head = note.Head(origin=ORIGIN, size=first + 200, root=merkle.root(edge))
            line = {"size": head.size, "note": note.signed(head.text, [KEY]).decode()}
            disk.add("history/2026-03", json.dumps(line).encode() + b"\n")
            self.heads.append(head)
        self.shelf = LogFiles(root=str(folder))

    def cause(self, numbers, **changed):
        """Return the cause if the rows hold these entries; `now` are the fields of a row now."""
        board = LeafBuffer(start=0, size=SIZE)
        for seq, number in enumerate(numbers[:SIZE]):
            leaf = merkle.leaf(number if isinstance(number, bytes) else entry(number))
            board.put([seq], leaf)
        tree = Tree(board=board, blocks=rows.subtree(bytes(board.hashes)), before={})
        last = self.heads[-1]
        head = Checkpoint(origin=last.origin, size=last.size, root=last.root, signer="")
        now = changed.get("now", lambda seq: ["changed", *fields(seq)[1:]])
        others = {name: changed[name] for name in ("elsewhere",) if name in changed}
        return diagnosis.cause(self.shelf, head, tree, [KEY.vkey], now, **others)


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


NUMBERS = list(range(SIZE))


@pytest.mark.parametrize(
    ("held", "kind", "seq", "detail"),
    [
        ([*NUMBERS[:417], b"x", *NUMBERS[418:]], "changed", 417,
         "row 417 (event_id id-417): raw is not as signed"),
        ([*NUMBERS[:417], b"x", *NUMBERS[417:]], "inserted", 417,
         "row 417 was never signed; the signed row is now 418"),
        ([*NUMBERS[:417], *NUMBERS[418:], b"x"], "deleted", 417,
         "row 417 (event_id id-417) was deleted; the row now in its place was row 418"),
        ([*NUMBERS[:417], 300, *NUMBERS[417:]], "duplicated", 417,
         "row 417 is an inserted copy of row 300"),
        ([*NUMBERS[:417], 500, *NUMBERS[418:500], 417, *NUMBERS[501:]], "reordered", 417,
         "row 417 was signed as row 500; signed row 417 is now 500"),
        ([b"x", *NUMBERS[1:]], "changed", 0, "row 0 (event_id id-0): raw is not as signed"),
        ([*NUMBERS[:599], b"x"], "changed", 599, "row 599 (event_id id-599): raw is not as signed"),
    ],
)  # fmt: skip
def test_each_kind_of_change_is_recognised_at_its_first_row(log, held, kind, seq, detail):
    found = log.cause(held)
    assert (found.kind, found.seq, found.detail) == (kind, seq, detail)


def test_every_changed_column_is_named(log):
    held = [*NUMBERS[:7], b"x", *NUMBERS[8:]]
    found = log.cause(held, now=lambda _: ["d", "7", "9", "webhook", "id-7"])
    assert found.detail == "row 7 (event_id id-7): raw, ingested_at, via is not as signed"


def test_without_the_signed_entry_the_row_is_still_located(log):
    (log.folder / "tile/entries/001").unlink()
    found = log.cause([*NUMBERS[:417], b"x", *NUMBERS[418:]])
    assert (found.kind, found.seq) == ("changed", 417)
    assert "id-417" not in found.detail


def signed_as(*fields):
    """Return the leaf of these fields."""
    return merkle.leaf("\n".join(("auditlake/1", *fields)).encode())


ROW = ["d", "1", "2", "webhook", "id"]


@pytest.mark.parametrize(
    ("present", "others"),
    [
        (["forged", *ROW[1:]], ["d", "1", "2", "", "id"]),
        (["d", "9", "2", "webhook", "id"], ["d", "1", "2", "", "id"]),
        (["d", "9", "8", "poll", "other"], ["x", "1", "2", "", "id"]),
        (ROW, []),
    ],
)
def test_without_a_bundle_the_leaf_shows_which_known_fields_were_signed(present, others):
    assert diagnosis._confirmed(signed_as(*ROW), present, others) == ROW
    assert diagnosis._confirmed(signed_as("other", *ROW[1:]), present, others) == []


@pytest.mark.parametrize(
    ("elsewhere", "detail"),
    [
        ([], "row 417: it is not as signed"),
        (["", "", "", "", "id-417"], "row 417 (event_id id-417): raw is not as signed"),
        (["", "1", "", "", "id-417"], "row 417 (event_id id-417): time is not as signed"),
        (["d", "", "", "", ""], "row 417: it is not as signed"),
    ],
)
def test_what_other_places_have_is_told_if_no_leaf_confirms_it(log, elsewhere, detail):
    (log.folder / "tile/entries/001").unlink()
    held = [*NUMBERS[:417], b"x", *NUMBERS[418:]]
    found = log.cause(
        held, now=lambda _: ["d", "417", "417", "poll", "id-417"], elsewhere=lambda _: elsewhere
    )
    assert found.detail == detail


def test_altered_tiles_leave_the_range_between_two_checkpoints(log):
    tile = log.folder / "tile/0/001"
    tile.write_bytes(tile.read_bytes()[::-1])
    found = log.cause([*NUMBERS[:417], b"x", *NUMBERS[418:]])
    assert (found.kind, found.seq) == ("changed", 400)
    assert "between 400 and 599" in found.detail


def test_checkpoints_in_the_history_count_only_if_signed(log):
    """Forged ones would point to a range that is as it was signed."""
    (log.folder / "tile/0/001").unlink()
    month = log.folder / "history/2026-03"
    forger = note.new_key("auditlake")
    lines = [json.loads(line) for line in month.read_text().splitlines()]
    text = lines[1]["note"].partition("\n\n")[0] + "\n"
    lines[1]["note"] = note.signed(text, [forger]).decode()
    month.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = log.cause([*NUMBERS[:417], b"x", *NUMBERS[418:]])
    assert found.seq == 200
    assert "between 200 and 599" in found.detail


def test_the_signed_fields_of_a_row_are_read_from_its_bundle(log):
    for seq in (0, 255, 256, 599):
        assert diagnosis.entry_of(log.shelf, SIZE, seq) == fields(seq)


def test_an_entry_that_is_not_the_signed_one_is_not_shown(log):
    bundle = log.folder / "tile/entries/001"
    bundle.write_bytes(bundle.read_bytes().replace(b"id-417", b"id-999"))
    assert diagnosis.entry_of(log.shelf, SIZE, 417) == []
    assert diagnosis.entry_of(log.shelf, SIZE, 418) == fields(418)
    bundle.unlink()
    assert diagnosis.entry_of(log.shelf, SIZE, 418) == []


def test_the_history_passes_over_lines_that_were_cut(log):
    whole = diagnosis.history(log.shelf)
    assert len(whole) == 3
    month = log.folder / "history/2026-03"
    month.write_bytes(month.read_bytes() + b'{"size": 7}\n{"no\n\0\0\0')
    assert diagnosis.history(log.shelf) == whole


@pytest.mark.parametrize(
    "line",
    [b"7", b"[]", b"{}", b"\xff", b'{"note": 7}', b'{"note": "\\ud800"}', b"[" * 50_000,
     b'{"note": "x", "note": "y"}'],
)  # fmt: skip
def test_a_damaged_line_of_the_history_hides_none_of_the_others(log, line):
    path = log.folder / "history" / "2026-03"
    notes = diagnosis.history(log.shelf)
    path.write_bytes(line + b"\n" + path.read_bytes() + line)
    assert diagnosis.history(log.shelf) == notes


def test_a_wrong_record_of_rows_verified_earlier_is_named(log):
    """The rows that were read are as signed, so the difference lies before them."""
    board = LeafBuffer(start=256, size=SIZE)
    board.put(range(256, SIZE), b"".join(merkle.leaf(entry(n)) for n in range(256, SIZE)))
    blocks, last = rows.subtree(bytes(board.hashes)), log.heads[-1]
    tree = Tree(board=board, blocks=blocks, before={(0, 256): b"w" * 32, (0, 512): b"w" * 32})
    head = Checkpoint(origin=last.origin, size=last.size, root=last.root, signer="")
    found = diagnosis.cause(log.shelf, head, tree, [KEY.vkey], lambda _: [])
    assert (found.kind, found.seq) == ("changed", 0)
    assert found.detail == "the record of the rows before 256 is wrong, or they are changed"
