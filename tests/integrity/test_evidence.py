"""Evidence packs: they check themselves offline, and fail after any change."""

import json
import subprocess
import sys
import zipfile
from contextlib import ExitStack
from datetime import timedelta
from hashlib import sha256

import polars as pl
import pytest

from pipelines.errors import AuditlakeError
from pipelines.integrity import cosignatures, evidence, keys, note, operator_acts
from pipelines.integrity.verifier import audit, proofs
from pipelines.schemas import IDENTITIES
from pipelines.search.terms import SearchError
from tests.integrity import matrix
from tests.integrity.witnessing import serving, submitted, witnessed
from tests.integrity.worlds import NOON, Signed

QUESTION = evidence.Question(
    query="actor_email = 'u3@x.io'", since=NOON - timedelta(days=1), until=NOON + timedelta(days=9)
)

ACTS = [
    {"act": "mapping", "log": "okta/system_log", "version": 1, "from": 0},
    {"act": "retention finished", "acts": 0},
    {"act": "configuration", "part": "integrations/okta", "now": None},
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A lake that tests must not change, with acts of every kind."""
    world = Signed(tmp_path_factory.mktemp("filled")).fill()
    for act in ACTS:
        operator_acts.record(world.lake, act, NOON)
    return world


@pytest.fixture(scope="module")
def pack(filled, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "evidence.zip"
    evidence.pack(filled.lake, QUESTION, path, NOON)
    return path


def test_a_pack_checks_itself_offline_with_only_python(filled, pack):
    command = [sys.executable, "-I", "-S", str(pack), "--key", filled.vkeys()[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=pack.parent)
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "claim"}
    assert "100 records are in the log auditlake/okta/system_log/" in done.stdout
    wrong = [*command[:-1], note.new_key("auditlake").vkey]
    assert subprocess.run(wrong, capture_output=True, check=False).returncode == 1


def test_a_pack_contains_the_exact_records(filled, pack):
    with zipfile.ZipFile(pack) as held:
        proofs = [json.loads(line) for line in held.read("records.ndjson").splitlines()]
        query = json.loads(held.read("query.json"))
        acts = [json.loads(line)["act"] for line in held.read("acts.ndjson").splitlines()]
    raws = filled.rows().filter(pl.col("raw").str.contains("u3@x.io", literal=True))["raw"]
    assert [proof["record"]["raw"] for proof in proofs] == raws.to_list()
    assert (query["query"], query["records"]) == (QUESTION.query, 100)
    assert acts == [act["act"] for act in ACTS]


def rewritten(pack, target, change):
    """Return a copy of the pack with some files changed."""
    with zipfile.ZipFile(pack) as old, zipfile.ZipFile(target, "w") as new:
        files = {name: old.read(name) for name in old.namelist()}
        change(files)
        for name, data in files.items():
            new.writestr(name, data)
    return str(target)


def drop_record(files):
    files["records.ndjson"] = files["records.ndjson"].split(b"\n", 1)[1]


def edit_event(files):
    files["events.ndjson"] = files["events.ndjson"].replace(b"success", b"failure", 1)


@matrix.attack("change a file of an evidence pack", "FAILED", matrix.PACK)
@pytest.mark.parametrize(
    "change",
    [
        drop_record,
        edit_event,
        lambda files: files.pop("coverage.ndjson"),
        lambda files: files.update({"more.txt": b"x"}),
        lambda files: files.update({"query.json": b"{}"}),
        lambda files: files.update({"manifest.txt": files["checkpoints/okta.system_log.txt"]}),
    ],
)
def test_a_pack_with_any_file_changed_fails(filled, pack, tmp_path, change):
    target = rewritten(pack, tmp_path / "changed.zip", change)
    with pytest.raises((proofs.Invalid, KeyError)):
        audit.check_pack(target, filled.vkeys())


def sign_again(filled, files):
    """Sign the manifest of a pack again, as its author can after leaving something out."""
    listed = "".join(
        f"{sha256(files[name]).hexdigest()}  {name}\n" for name in files if name != "manifest.txt"
    )
    text = f"{audit.MANIFEST}\n{listed}"
    files["manifest.txt"] = note.signed(text, keys.signing(filled.integrity))


LEAVES = "leaves/okta.system_log.ndjson"


def leave_out_a_match(files):
    """Leave out a record and its events, so that what is left is consistent."""
    proof, rest = files["records.ndjson"].split(b"\n", 1)
    gone = json.loads(proof)["record"]["event_id"].encode()
    files["records.ndjson"] = rest
    kept = [line for line in files["events.ndjson"].splitlines(True) if gone not in line]
    files["events.ndjson"] = b"".join(kept)


def leaves_line(number):
    def drop(files):
        lines = files[LEAVES].splitlines(True)
        files[LEAVES] = b"".join(lines[:number] + lines[number + 1 :])

    return drop


def move_out_of_the_range(files):
    opening, first, *rest = files[LEAVES].splitlines()
    digest, time, *others = json.loads(first)
    moved = json.dumps([digest, time - 10**15, *others]).encode()
    files[LEAVES] = b"\n".join([opening, moved, *rest])


def begin_later(files):
    opening, *lines = files[LEAVES].splitlines()
    later = json.dumps({**json.loads(opening), "first": 1}).encode()
    files[LEAVES] = b"\n".join([later, *lines[1:]])


@matrix.attack("leave a record out of the list in an evidence pack", "FAILED", matrix.PACK)
@pytest.mark.parametrize(
    "change", [leaves_line(1), leaves_line(400), leaves_line(700), move_out_of_the_range,
               begin_later]
)  # fmt: skip
def test_a_list_of_leaves_that_leaves_one_out_fails(filled, pack, tmp_path, change):
    def forge(files):
        change(files)
        sign_again(filled, files)

    with pytest.raises((proofs.Invalid, ValueError)):
        audit.check_pack(rewritten(pack, tmp_path / "forged.zip", forge), filled.vkeys())


@matrix.attack("leave a match out of an evidence pack", "one more withheld", matrix.PACK)
def test_a_match_left_out_is_counted_as_withheld(filled, pack, tmp_path):
    def forge(files):
        leave_out_a_match(files)
        sign_again(filled, files)

    def withheld(path):
        lines = audit.check_pack(str(path), filled.vkeys())
        return next(line for line in lines if "withheld" in line)

    assert "700 in the time range, of which 600 are withheld" in withheld(pack)
    forged = rewritten(pack, tmp_path / "forged.zip", forge)
    assert "700 in the time range, of which 601 are withheld" in withheld(forged)


@matrix.attack("leave out the list of an evidence pack", "NOT LISTED", matrix.PACK)
def test_a_pack_without_a_list_of_leaves_does_not_hide_that(filled, pack, tmp_path):
    def forge(files):
        del files[LEAVES]
        sign_again(filled, files)

    lines = audit.check_pack(rewritten(pack, tmp_path / "old.zip", forge), filled.vkeys())
    assert any("NOT LISTED" in line for line in lines)


COSIGNED = "cosignatures/okta.system_log.ndjson"


@pytest.fixture(scope="module")
def witnessed_pack(tmp_path_factory):
    """(pack, keys of the log, keys of two witnesses), where one lags behind the other."""
    folder = tmp_path_factory.mktemp("witnessed")
    world = Signed(folder).fill(300)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(serving(folder / name, world.vkeys(), name=name))
            for name in ("one", "two")
        )
        witnessed(world, first, second)
        assert submitted(world) == []
        witnessed(world, first).land(*range(300, 350), day=3)
        assert submitted(world) == []
    witnessed(world, first, second)
    path = folder / "evidence.zip"
    evidence.pack(world.lake, QUESTION, path, NOON)
    return world, path, [first.key, second.key]


def quorum(keys, least=None):
    return audit.quorum_of(keys, least)


def test_a_pack_shows_how_much_witnesses_have_seen(witnessed_pack):
    world, pack, witnesses = witnessed_pack

    def seen(*least):
        lines = audit.check_pack(str(pack), world.vkeys(), quorum(witnesses, *least))
        return [line for line in lines if "witnesses" in line]

    assert seen() == [
        "  2 of 2 witnesses have seen it, 2 of them 300 of its 350 records at "
        "2026-03-01 12:00:00 UTC"
    ]
    assert "1 of them 350 of its 350 records" in seen(1)[0]
    other = cosignatures.new_key("other").vkey
    with pytest.raises(proofs.Invalid, match="2 of 3 witnesses have cosigned the log"):
        audit.check_pack(str(pack), world.vkeys(), quorum([*witnesses, other]))
    assert audit.check_pack(str(pack), world.vkeys(), quorum([*witnesses, other], 2))


def no_cosignatures(files):
    del files[COSIGNED]


def forged_cosignature(files):
    files[COSIGNED] = files[COSIGNED].replace(b"\\n300\\n", b"\\n301\\n")


def shortened_proof(files):
    lines = [json.loads(line) for line in files[COSIGNED].splitlines()]
    lines = [{**line, "path": line["path"][1:]} for line in lines]
    files[COSIGNED] = "\n".join(map(json.dumps, lines)).encode()


def of_another_log(files):
    key = note.new_key("auditlake")
    text = note.Head(origin="auditlake/okta/system_log/0", size=300, root=bytes(32)).text
    forged = {"note": note.signed(text, [key]).decode(), "path": []}
    files[COSIGNED] += json.dumps(forged).encode()


@matrix.attack("forge or leave out the cosignatures of an evidence pack", "FAILED", matrix.PACK)
@pytest.mark.parametrize(
    "change", [no_cosignatures, forged_cosignature, shortened_proof, of_another_log]
)
def test_cosignatures_in_a_pack_cannot_be_forged(witnessed_pack, tmp_path, change):
    world, pack, witnesses = witnessed_pack

    def forge(files):
        change(files)
        sign_again(world, files)

    forged = rewritten(pack, tmp_path / "forged.zip", forge)
    with pytest.raises(proofs.Invalid):
        audit.check_pack(forged, world.vkeys(), quorum(witnesses))
    audit.check_pack(forged, world.vkeys())  # without witnesses, none is needed


def claim(since, until, outcome="complete", stream="system_log"):
    span = {"since": since.isoformat(), "until": until.isoformat(), "outcome": outcome}
    return {"integration": "okta", "stream": stream, **span}


@pytest.mark.parametrize(
    ("claims", "line"),
    [
        ([], "coverage of okta/system_log: GAPS: 2026-02-28 12:00:00 to 2026-03-10 12:00:00"),
        (
            [claim(QUESTION.since, NOON), claim(NOON, QUESTION.until)],
            "coverage of okta/system_log: complete, the whole time range was fetched",
        ),
        (
            [claim(NOON, QUESTION.until), claim(QUESTION.since, NOON, "failed")],
            "coverage of okta/system_log: GAPS: 2026-02-28 12:00:00 to 2026-03-01 12:00:00",
        ),
        (
            [
                claim(NOON, NOON + timedelta(hours=1), "gone"),
                claim(QUESTION.since, QUESTION.until),
            ],
            "coverage of okta/system_log: GAPS: 2026-03-01 12:00:00 to 2026-03-01 13:00:00 UTC",
        ),
        (
            [claim(QUESTION.since, QUESTION.until, stream="other")],
            "coverage of okta/other: complete, the whole time range was fetched",
        ),
    ],
)
def test_a_pack_reports_the_coverage_and_its_gaps(filled, pack, tmp_path, claims, line):
    def change(files):
        files["coverage.ndjson"] = "\n".join(map(json.dumps, claims)).encode()
        sign_again(filled, files)

    target = rewritten(pack, tmp_path / "covered.zip", change)
    assert any(proved.startswith(line) for proved in audit.check_pack(target, filled.vkeys()))


def test_a_pack_of_a_search_holds_the_search_and_its_condition(filled, pack, tmp_path):
    others = [f"nobody{n}@x.io" for n in range(60)]
    search = f"email:(u3@x.io, {', '.join(others)}) AND NOT ip:192.0.2.0/31"
    question = evidence.Question(search=search, since=QUESTION.since, until=QUESTION.until)
    found = evidence.pack(filled.lake, question, tmp_path / "found.zip", NOON)
    assert found == {"events": 100, "records": 100}
    with zipfile.ZipFile(tmp_path / "found.zip") as held, zipfile.ZipFile(pack) as same:
        query = json.loads(held.read("query.json"))
        assert held.read("events.ndjson") == same.read("events.ndjson")
    assert (query["query"], query["search"]) == ("", search)
    assert all(f'"{one}"' in query["condition"] for one in ["u3@x.io", *others])


def test_a_pack_of_an_account_holds_the_person_that_it_stands_for(tmp_path):
    signed = Signed(tmp_path)
    signed.land(*range(20))
    times = {"first_event": NOON, "last_seen": NOON}
    link = {"integration": "okta", "identifier": "user", "value": "00u3", "person": "u3@x.io"}
    pl.DataFrame([link | times], IDENTITIES).write_delta(signed.lake.uri("identities"))
    span = {"since": QUESTION.since, "until": QUESTION.until}
    question = evidence.Question(search="actor:00u3", **span)
    found = evidence.pack(signed.lake, question, tmp_path / "found.zip", NOON)
    assert found == {"events": 3, "records": 3}
    with zipfile.ZipFile(tmp_path / "found.zip") as held:
        query = json.loads(held.read("query.json"))
        links = [json.loads(line) for line in held.read("identities.ndjson").splitlines()]
    assert query["search"] == "actor:00u3"
    assert "u3@x.io" in query["condition"]
    assert [(one["value"], one["person"]) for one in links] == [("00u3", "u3@x.io")]


@pytest.mark.parametrize("search", ["acter:u3", "(", "a AND"])
def test_a_search_that_is_not_understood_writes_no_pack(filled, tmp_path, search):
    question = evidence.Question(search=search, since=QUESTION.since, until=QUESTION.until)
    with pytest.raises(SearchError):
        evidence.pack(filled.lake, question, tmp_path / "none.zip", NOON)
    assert list(tmp_path.iterdir()) == []


def test_a_query_without_matches_gives_a_valid_pack(filled, tmp_path):
    question = evidence.Question(
        query="actor_email = 'nobody'", since=QUESTION.since, until=QUESTION.until
    )
    found = evidence.pack(filled.lake, question, tmp_path / "none.zip", NOON)
    assert found == {"events": 0, "records": 0}
    lines = audit.check_pack(str(tmp_path / "none.zip"), filled.vkeys())
    assert any("had 700 records" in line for line in lines)
    assert any("700 in the time range, of which 700 are withheld" in line for line in lines)
    assert "GAPS" in lines[-1]


def test_an_invalid_query_is_reported_in_one_line(filled, tmp_path):
    for query in ("nobody = 1", "DROP TABLE", ""):
        question = evidence.Question(query=query, since=NOON, until=NOON)
        with pytest.raises(AuditlakeError, match="SQL condition") as error:
            evidence.pack(filled.lake, question, tmp_path / "x.zip", NOON)
        assert "\n" not in str(error.value)
