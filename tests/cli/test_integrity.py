"""The integrity commands, end to end, on a lake filled from the sandbox."""

import json
import shutil

import polars as pl
import pytest
from click.testing import CliRunner

from dashboard.access_log import ACCESS, VIEWS
from pipelines import visible
from pipelines.cli import config_file
from pipelines.cli.main import main
from pipelines.integrity import cosignatures, reports, signer
from pipelines.lake import commits, findings, raw, reconciliation, tables
from pipelines.lake.tables import Lake
from sandbox.server import Options, running
from tests.cli import command
from tests.integrity import attacks, matrix
from tests.integrity.worlds import LOG, NOON, Signed, rows


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs a command in a deployment after one round."""
    folder = tmp_path_factory.mktemp("deployment")
    with running(Options(days=3, per_day=100, rate=0)) as server:
        okta = {"okta": server.settings()["okta"]}
        text = config_file.document(okta, f"{folder}/data", integrity=f"{folder}/state")
        (folder / "auditlake.toml").write_text(text)

        def run(*arguments, code=0):
            command = ["--config", str(folder / "auditlake.toml"), *map(str, arguments)]
            done = CliRunner().invoke(main, command, catch_exceptions=False)
            assert done.exit_code == code, done.output
            return done.stdout

        run.folder = folder
        run("poll", "okta")
        yield run


def test_a_round_is_signed_and_verified(run):
    verdict, *others = (each for each in json.loads(run("verify", "--json")) if each["covered"])
    assert (verdict["ok"], verdict["table"]) == (True, "raw/okta/system_log")
    # Correlations look up persons.
    names = ("acts", "events", "findings", "identities")
    assert {other["table"]: other["ok"] for other in others} == dict.fromkeys(names, True)
    assert verdict["size"] == verdict["events"] > 100
    assert json.loads((run.folder / "data/integrity/verification.json").read_text())[0]["ok"]
    assert "ok," in run("verify", "--table", "raw/okta/system_log", "--full")


UNSIGNED = (
    *("access", "coverage", "deliveries", "echoes", "evaluations", "exceptions", "hits"),
    *("reconciliation", "rejected", "rulesets", "streams", "triage", "views"),
)


@pytest.fixture
def unsigned(run, tmp_path, monkeypatch):
    """That deployment with a row in each table that nothing covers; a test may change them."""
    data = run.folder / "data"
    kept = tmp_path / "data"
    shutil.copytree(data, kept)
    lake = Lake(str(data))
    for table in (ACCESS, VIEWS, raw.REJECTED_TABLE, reconciliation.ECHOES_TABLE,
                  reconciliation.RECONCILED_TABLE, *findings.TABLES[1:]):  # fmt: skip
        row = {name: VALUES.get(type(dtype)) for name, dtype in table.schema.items()}
        commits.append(lake, table, pl.DataFrame([row], table.schema))
    yield run
    shutil.rmtree(data)
    shutil.move(kept, data)


VALUES = {pl.String: "a", pl.Int64: 7, pl.Datetime: NOON, pl.Date: NOON.date(), pl.Binary: b"a"}
ATTACKS = {
    "add": lambda rows: pl.concat([rows, rows.head(1).with_columns(reason(rows, "added"))]),
    "change": lambda rows: rows.with_columns(reason(rows, "changed")),
    "delete": lambda rows: rows.clear(),
}


def reason(rows, value):
    """Return another value for one of the columns that are texts."""
    name = next(name for name, dtype in rows.schema.items() if dtype == pl.String)
    return pl.lit(value).alias(name)


@matrix.attack(
    "add, change or delete rows of access, coverage, deliveries, echoes, evaluations, exceptions, "
    "hits, reconciliation, rejected, rulesets, streams, triage or views, or delete the table",
    "named as not covered",
    "`verify`, each time",
)
@pytest.mark.parametrize("attack", [*ATTACKS, "delete the table"])
def test_tables_that_nothing_covers_are_named_each_time(unsigned, attack):
    for table in UNSIGNED:
        path = unsigned.folder / "data" / table
        stored = pl.read_delta(str(path))
        shutil.rmtree(path)
        if attack in ATTACKS:
            ATTACKS[attack](stored).write_delta(str(path))
    lines = unsigned("verify", "--table", "raw/okta/system_log").splitlines()
    assert lines[-1].startswith(f"not covered: {', '.join(UNSIGNED)}: unsigned")
    found = json.loads(unsigned("verify", "--json"))
    named = {each["table"]: each["ok"] for each in found if not each["covered"]}
    assert named == dict.fromkeys(UNSIGNED)


def test_verify_lists_the_acts_with_the_configuration_that_was_polled(run):
    lines = run("verify", "--table", "acts").splitlines()
    assert "configuration: part=integrations/okta now=" in lines[1]
    report = json.loads(run("verify", "--table", "acts", "--json"))[0]
    assert (report["ok"], report["acts"][0]["part"]) == (True, "integrations/okta")
    assert len(report["acts"]) == report["size"]
    assert "acts" not in json.loads(run("verify", "--json"))[1]


def test_events_that_could_not_be_compared_have_an_exit_code_of_their_own(run, monkeypatch):
    monkeypatch.setattr(reports, "_kind", lambda _kinds, _table: None)
    output = run("verify", "--full", code=3)
    assert "NOT COMPARED" in output
    assert "configure integrations.okta with its kind" in output


def test_an_auditor_verifies_with_the_public_key_and_a_kept_checkpoint(run):
    vkey = run("keys").strip()
    kept = run.folder / "data/integrity/okta/system_log/checkpoint"
    assert "ok," in run("verify", "--key", vkey, "--since", kept)
    assert "CHECKPOINT" in run("verify", "--key", other_key(), code=1)


def test_witnesses_are_counted_and_too_few_have_the_exit_code_of_a_finding(run):
    witness = cosignatures.new_key("witness.example/w1").vkey
    output = run("verify", "--witness", witness)
    assert "0 of 1 witnesses have cosigned it" in output
    assert "quorum: 2 of 1" in failure(run, "verify", "--witness", witness, "--quorum", 2)


def failure(run, *arguments):
    command = ["--config", str(run.folder / "auditlake.toml"), *map(str, arguments)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    return done.output


def other_key():
    return "auditlake+434c14df+AYEDF44S1PxmqMtVPqpOLSVHFbVtEs9yC0oKyTMaNQpX"


def test_a_certificate_of_coverage_is_written_and_checked(run, tmp_path):
    file = tmp_path / "coverage.txt"
    run("certify", "okta", "--since", "2020-01-01", "--out", file)
    shown = run("verify-proof", file, "--key", run("keys").strip())
    assert "complete: 0 of 1 streams" in shown
    assert "okta system_log: missing 2020-01-01T00:00:00+00:00 to " in shown
    run("verify-proof", file, "--key", other_key(), code=1)


def test_a_log_is_written_with_its_entries(run, tmp_path):
    shown = run("entries", "raw/okta/system_log", "--out", tmp_path / "log")
    assert "with its checkpoint" in shown
    assert list((tmp_path / "log/tile/entries").rglob("*"))
    assert (tmp_path / "log/checkpoint").is_file()


def test_a_proof_is_written_and_checked(run, tmp_path):
    run("prove", "raw/okta/system_log/17", "--out", tmp_path / "proof.json")
    vkey = run("keys").strip()
    assert "is in the log" in run("verify-proof", tmp_path / "proof.json", "--key", vkey)
    uid = json.loads((tmp_path / "proof.json").read_text())["record"]["event_id"]
    assert json.loads(run("prove", f"okta:system_log:{uid}"))["record"]["event_id"] == uid
    text = (tmp_path / "proof.json").read_text()
    (tmp_path / "proof.json").write_text(text.replace(uid, uid[::-1]))
    run("verify-proof", tmp_path / "proof.json", code=1)


def test_growth_since_a_kept_checkpoint_is_proved(run, tmp_path):
    kept = run.folder / "data/integrity/okta/system_log/checkpoint"
    run("prove", "--since", kept, "--out", tmp_path / "growth.json")
    assert "has only grown" in run("verify-proof", tmp_path / "growth.json")
    run("prove", code=2)


def test_evidence_is_packed_and_checked(run, tmp_path):
    query = ("--query", "outcome = 'success'", "--since", "2020-01-01")
    assert "events from" in run("evidence", *query, "--out", tmp_path / "pack.zip")
    search = ("--search", "outcome:success", *query[2:])
    assert run("evidence", *search, "--out", tmp_path / "pack.zip").split(":")[1]
    run("evidence", *search, *query[:2], "--out", tmp_path / "both.zip", code=2)
    output = run("verify-proof", tmp_path / "pack.zip")
    assert "records are in the log" in output
    assert "coverage of okta/system_log: GAPS: 2020-01-01" in output


def test_keys_are_shown_rotated_and_retired(run):
    (old,) = run("keys").split()
    assert len(run("keys", "rotate").split()) == 2
    assert "no longer signs" in run("keys", "retire")
    assert old in run("keys")
    assert run("keys", "new", "--name", "vault").startswith("PRIVATE+KEY+vault+")


def test_old_days_are_deleted_and_recorded(run):
    command = ("retain", "raw/okta/system_log", "--before", "2000-01-01", "--why", "a rule")
    assert "0 rows" in run(*command, "--who", "ada", "--yes")


def test_a_rolled_back_table_stops_its_stream_with_an_alarm(run):
    lake = tables.Lake(str(run.folder / "data"))
    tables.open_table(lake, "raw/okta/system_log").restore(0)
    output = run("poll", "okta", code=1)
    assert "raw/okta/system_log: has 0 rows, but" in output
    assert "docs/integrity.md" in output
    assert "TRUNCATED" in run("verify", code=1)


def test_what_an_auditor_reads_cannot_be_forged_by_an_event_id(tmp_path):
    signed, forged = Signed(tmp_path), "x\nraw/okta/other: ok, 9 signed \x1b[1A\u202e"
    landed = rows([1, 2]).with_columns(event_id=pl.lit(forged))
    stored = raw.append(signed.lake, LOG, landed, "cursor").frame
    signer.sign(signed.lake, LOG, stored["seq"][-1] + 1, NOON, stored)
    signed.derive(stored)
    attacks.rewrite(signed, signed.rows().with_columns(via=pl.lit("webhook")))
    text = config_file.document({}, signed.lake.root, integrity=f"{tmp_path}/state")
    (tmp_path / "auditlake.toml").write_text(text)
    done = command.run(tmp_path, "verify", "--full")
    assert done.exit_code == 1
    line, *others = done.stdout.splitlines()
    # The two records have the same id and differ, which a note names in one line.
    assert [other.split(":")[0] for other in others] == ["  note", "events", "not covered"]
    assert not {"\x1b", "\u202e"} & set(done.stdout)
    assert line.startswith("raw/okta/system_log: CHANGED: row 0 (event_id x[U+000A]raw/okta/other")
    assert visible.text(line) == line


def test_an_auditor_without_a_key_or_a_configuration_is_told_to_pass_one(tmp_path):
    (tmp_path / "proof.json").write_text("{}")
    done = command.run(tmp_path, "verify-proof", str(tmp_path / "proof.json"))
    assert (done.exit_code, done.stderr) == (
        2,
        "auditlake: pass the published key with --key KEY\n",
    )


def test_a_damaged_file_fails_in_one_line(tmp_path):
    file = tmp_path / "proof.json"
    for text in ("[]", "[" * 100_000, '{"what": "auditlake proof 1"}', "\xff", '{"what": 7}'):
        file.write_text(text, encoding="latin-1")
        done = command.run(tmp_path, "verify-proof", str(file), "--key", other_key())
        assert (done.exit_code, done.stdout) == (1, "")
        assert "verification FAILED" in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_lake_without_tables_is_not_verified(tmp_path, form):
    (tmp_path / "auditlake.toml").write_text(config_file.document({}, f"{tmp_path}/data"))
    command = ["--config", str(tmp_path / "auditlake.toml"), "verify", *form]
    done = CliRunner().invoke(main, command, catch_exceptions=False)
    assert done.exit_code == 1
    assert f"nothing to verify: {tmp_path}/data has no raw tables" in done.output
