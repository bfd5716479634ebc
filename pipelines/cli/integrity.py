"""The commands that verify and prove the lake."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipelines import registry, settings, visible
from pipelines.cli import options, status
from pipelines.cli.guide import FAILED, NOT_COMPARED
from pipelines.cli.options import Time, as_json, check_order, configured, counted, echo, echo_json
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError, ConfigurationError
from pipelines.integrity import (
    bundles,
    coverage_certificate,
    evidence,
    keys,
    note,
    prove,
    reports,
    retired_streams,
)
from pipelines.integrity.crew import EngineCrew
from pipelines.integrity.verifier import audit, operator_acts, proofs, verify
from pipelines.integrity.verifier.job import ACTS, LakeView, TableReport
from pipelines.lake.tables import Lake
from pipelines.sdk.pages import Span

_FORGEABLE = "unsigned, so write access is enough to forge them"

_out = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_witness = click.option(
    "--witness",
    "witnesses",
    metavar="VKEY",
    multiple=True,
    help="The public key of a witness; repeatable.",
)
_quorum = click.option(
    "--quorum",
    type=click.IntRange(min=1),
    help="How many witnesses must have seen the log. Default: all.",
)


@click.command(name="verify")
@as_json
@click.option(
    "--table",
    "tables",
    multiple=True,
    help="Table such as raw/okta/system_log; repeatable. Default: all.",
)
@click.option(
    "--since",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="A checkpoint you kept, or a folder of them, that the log must extend.",
)
@click.option("--key", "vkeys", multiple=True, help="Trust only these public keys.")
@click.option(
    "--full", is_flag=True, help="Also re-read rows that an earlier verification covered."
)
@_witness
@_quorum
@options.engine
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    help="Number of worker processes. Default: one per CPU.",
)
@click.pass_context
def verify_(
    context: click.Context,
    *,
    as_json: bool,
    tables: tuple[str, ...],
    since: tuple[Path, ...],
    vkeys: tuple[str, ...],
    full: bool,
    witnesses: tuple[str, ...],
    quorum: int | None,
    engine: str,
    processes: int | None,
) -> None:
    """Check every row against the signed log, and report the first bad row of each table.

    Without --witness, the witnesses and the quorum of the configuration count.

    Exits with 1 if something is not as signed, or with 3 if nothing is known to be wrong, but some
    rows could not be compared. With --table acts, every act is printed too.
    """
    chosen, lake = configured(context)
    where = reports.place(lake, chosen.integrity, vkeys, witnesses, quorum)
    kept = reports.kept_checkpoints(where, since)
    signed = verify.tables(where)
    wanted = _existing(where, tables) or list(kept) or signed
    if not wanted:
        raise AuditlakeError(
            f"nothing to verify: {lake.root} has no raw tables, and none is known to have been "
            "signed: check lake.root, or run `auditlake poll` first"
        )
    if wanted is signed:
        wanted = [*signed, *reports.derived(where)]
    kinds = {name: str(given.get("kind", name)) for name, given in chosen.integrations.items()}
    found = []
    with (
        _bars(show=not as_json) as progress,
        options.opened_engine(context, engine, processes) as workers,
    ):
        crew = EngineCrew(workers, lake)
        for verdict in reports.verdicts(
            where, wanted, kinds, crew, since=kept, full=full, progress=progress
        ):
            found.append(verdict)
            if not as_json:
                echo(reports.line(verdict))
                for each in verdict.notes:
                    echo(f"  note: {each}")
                for act in operator_acts.lines(_acts(where, verdict, tables)):
                    echo(f"  {act}")
    uncovered = reports.not_covered(where)
    echo(f"not covered: {', '.join(uncovered)}: {_FORGEABLE}", err=as_json)
    if as_json:
        documents = [
            {**reports.document(verdict), "covered": True, **({"acts": acts} if acts else {})}
            for verdict in found
            for acts in [_acts(where, verdict, tables)]
        ]
        documents += [
            {"table": each, "ok": None, "covered": False, "findings": [], "notes": [_FORGEABLE]}
            for each in uncovered
        ]
        echo_json(json.dumps(documents, indent=2))
    # The dashboard shows the result, but only of the operator's own keys.
    if not (vkeys or witnesses or quorum):
        with suppress(Exception):  # an auditor may lack write access
            reports.keep(lake, found)
    if any(verdict.findings for verdict in found):
        context.exit(FAILED)
    if any(verdict.uncompared for verdict in found):
        context.exit(NOT_COMPARED)


def _acts(where: LakeView, verdict: TableReport, tables: Sequence[str]) -> list[dict[str, Any]]:
    """Return all acts if this is the report on them, and they were asked for by name."""
    if verdict.table != ACTS or ACTS not in tables or not verdict.ok:
        return []
    return operator_acts.read(where.shelf(ACTS), where.keys)


def _existing(where: LakeView, tables: tuple[str, ...]) -> list[str]:
    known = [*verify.tables(where), *reports.derived(where), ACTS]
    if unknown := [table for table in tables if table not in known]:
        raise AuditlakeError(f"{unknown[0]}: no such table: use one of {', '.join(known)}")
    return list(tables)


@click.command(name="prove")
@click.argument("event", required=False)
@click.option(
    "--since", type=_file, help="A checkpoint you kept: prove that the log only grew since."
)
@_out
@click.pass_context
def prove_(context: click.Context, event: str | None, since: Path | None, out: Path | None) -> None:
    """Write a small file that proves, offline, that EVENT is in the log.

    EVENT is an event_uid, or a row such as raw/okta/system_log/417.
    """
    _, lake = configured(context)
    if (event is None) == (since is None):
        raise click.UsageError("give either EVENT or --since CHECKPOINT")
    document = prove.prove(lake, event) if event else _growth(lake, since)
    text = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    if out:
        out.write_text(text, encoding="utf-8")
        echo(f"{out}: anyone can check it with: auditlake verify-proof {out} --key KEY")
    else:
        echo_json(text)


def _growth(lake: Lake, since: Path | None) -> prove.Document:
    old = since.read_text(encoding="utf-8") if since else ""
    # The first line is the log's name, which ends in the integration and the stream.
    parts = old.split("\n")[0].split("/")
    if len(parts) < 3:
        raise AuditlakeError(f"{since}: not an auditlake checkpoint")
    return prove.prover(lake, "/".join(parts[-3:-1])).growth(old)


@click.command(name="verify-proof")
@click.argument("file", type=_file)
@click.option("--key", "vkeys", multiple=True, help="The public key, as published.")
@_witness
@_quorum
@click.pass_context
def verify_proof(
    context: click.Context,
    *,
    file: Path,
    vkeys: tuple[str, ...],
    witnesses: tuple[str, ...],
    quorum: int | None,
) -> None:
    """Check a proof or an evidence pack. Needs no lake and, with --key, no configuration.

    With --witness, the log must also have been seen by witnesses.
    """
    known = list(vkeys) or _operators_keys(context.obj)
    try:
        for line in audit.check_file(str(file), known, audit.quorum_of(witnesses, quorum)):
            echo(line)
    except proofs.Invalid as error:
        raise AuditlakeError(f"{file}: verification FAILED: {error}") from None


def _operators_keys(config: Path) -> list[str]:
    # An auditor has no configuration, only the published key.
    if not config.exists():
        raise ConfigurationError("pass the published key with --key KEY")
    return keys.trusted(settings.load(config).integrity)


@click.command(name="evidence")
@click.option("--search", default="", help="A search, as in the dashboard; see docs/search.md.")
@click.option("--query", default="", help="Instead: an SQL condition on the columns of events.")
@click.option("--since", type=Time(), required=True, help="UTC, unless it has an offset.")
@click.option("--until", type=Time(), help="Exclusive.  [default: now]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.pass_context
def evidence_(
    context: click.Context,
    *,
    search: str,
    query: str,
    since: datetime,
    until: datetime | None,
    out: Path,
) -> None:
    """Write a zip that proves a query's result to an outsider; it verifies itself offline."""
    if bool(search) == bool(query):
        raise click.UsageError("give either --search or --query")
    _, lake = configured(context)
    now = utc_now()
    until = until or now
    check_order(since, until)
    question = evidence.Question(query=query, search=search, since=since, until=until)
    count = evidence.pack(lake, question, out, now)
    echo(f"{out}: {counted(count['events'], 'event')} from {counted(count['records'], 'record')}")
    echo(f"an auditor can check it with: auditlake verify-proof {out} --key KEY")
    echo("(KEY as published, see `auditlake keys`; or with audit.py, see README.md in the pack)")


@click.command(name="entries")
@click.argument("table")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="A new folder."
)
@click.pass_context
def entries_(context: click.Context, table: str, out: Path) -> None:
    """Write the signed log of TABLE with all entries, for programs that read tlog-tiles.

    The lake has no entries of raw tables, since their rows give them again.
    """
    _, lake = configured(context)
    size = bundles.write(lake, table.removeprefix("raw/"), out)
    echo(f"{out}: the log of {counted(size, 'row')}, with its checkpoint")


@click.command(name="certify")
@click.argument("names", nargs=-1, metavar="[INTEGRATION]...")
@click.option("--since", type=Time(), required=True, help="UTC, unless it has an offset.")
@click.option("--until", type=Time(), help="Exclusive.  [default: now]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.pass_context
def certify_(
    context: click.Context,
    names: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    out: Path,
) -> None:
    """Write a signed certificate of how completely a span of time was fetched."""
    _, lake = configured(context)
    now = utc_now()
    span = Span(since=since, until=until or now)
    check_order(span.since, span.until)
    out.write_bytes(coverage_certificate.make(lake, span, now, names or None))
    echo(f"{out}: check it with `auditlake verify-proof {out} --key KEY`")


@click.command(name="retire")
@click.argument("name", metavar="INTEGRATION[/STREAM]")
@click.option("--why", required=True, help="The reason; recorded permanently.")
@click.option("--who", default=getpass.getuser, show_default="you", help="Recorded permanently.")
@click.pass_context
def retire_(context: click.Context, /, name: str, **record: str) -> None:
    """Record and sign that streams are no longer polled, so that they are not reported any more."""
    chosen, lake = configured(context)
    logs = status.unconfigured(lake, registry.sources(chosen, secrets=False), name)
    retirement = retired_streams.Retirement(logs=logs, **record)
    retired_streams.retire(lake, retirement, utc_now())
    for key in logs:
        echo(f"{key.app}: retired, recorded and signed")


@click.group(name="keys", invoke_without_command=True)
@click.pass_context
def keys_(context: click.Context) -> None:
    """Print the public keys to publish; they verify everything that was signed."""
    if context.invoked_subcommand is None:
        chosen, _ = configured(context)
        keys.signing(chosen.integrity)
        for vkey in keys.trusted(chosen.integrity):
            echo(vkey)


@keys_.command(name="rotate")
@click.pass_context
def rotate(context: click.Context) -> None:
    """Add a key, which signs alongside the current one from now on."""
    chosen, _ = configured(context)
    keys.rotate(chosen.integrity)
    for key in keys.signing(chosen.integrity):
        echo(key.vkey)
    echo("publish the new key; once everyone has it, run: auditlake keys retire", err=True)


@keys_.command(name="retire")
@click.pass_context
def retire(context: click.Context) -> None:
    """Stop signing with the oldest key; its signatures stay valid."""
    chosen, _ = configured(context)
    echo(f"{keys.retire(chosen.integrity)} no longer signs")


@keys_.command(name="new")
@click.option("--name", default="auditlake", show_default=True)
def new(name: str) -> None:
    """Print a new private key for a vault; refer to it in integrity.keys or .key_command."""
    echo(note.new_key(name).secret)


@contextmanager
def _bars(*, show: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar per table on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not (show and console.is_terminal):
        yield lambda _table, _read, _all: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def update(table: str, read: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = bars.add_task(visible.text(table), total=total)
            bars.update(tasks[table], completed=read)

        yield update
