"""Evidence packs: the events a query found, with everything needed to check them offline.

An auditor checks them with copies of audit.py and proofs.py that did not come with the pack. The
zip file is also a program, for a first look: `python3 PACK.zip` checks itself, with Python alone.
"""

from __future__ import annotations

import json
import platform
import zipfile
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.errors import AuditlakeError, LakeError
from pipelines.integrity import files as log_files
from pipelines.integrity import keys, leaves, merkle, note, prove, tiles, witnesses
from pipelines.integrity.files import Folder
from pipelines.integrity.verifier import audit, operator_acts, proofs
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.lake import identity_table, stream_state, tables
from pipelines.lake.tables import Lake
from pipelines.schemas import EVENTS
from pipelines.search import compiler, parser
from pipelines.search.people import PERSON, People
from pipelines.search.terms import Node
from pipelines.settings import IntegritySettings

_README = Path(__file__).with_name("evidence.md")
_PACKAGES = ("auditlake", "deltalake", "polars", "cryptography")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query on `events`: an SQL condition or a search, and a time range, `until` excluded."""

    query: str = ""
    search: str = ""
    since: datetime
    until: datetime

    def condition(self, people: People) -> pl.Expr:
        """Return the condition on the columns of events. Raises SearchError."""
        if not self.search:
            return pl.sql_expr(self.query)
        return pl.all_horizontal(True, *compiler.expressions(self._wanted(people)))

    def described(self, people: People) -> str:
        """Return the condition as text, without the reading of texts as they look."""
        if not self.search:
            return _as_text(self.condition(people))
        known: compiler.Nowhere = {None: EVENTS}
        return _as_text(pl.all_horizontal(True, *compiler.expressions(self._wanted(people), known)))

    def persons(self, people: People) -> list[str]:
        """Return the addresses that accounts in the search stand for."""
        return people.meant(parser.parse(self.search))

    def _wanted(self, people: People) -> Node:
        return people.resolved(parser.parse(self.search))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """A lake, or the part of it that some integrations make up."""

    lake: Lake
    only: Collection[str] | None

    def rows(self, table: str) -> pl.LazyFrame | None:
        """Return the rows of a table that names integrations; None if it does not exist."""
        rows = tables.scan(self.lake, table)
        return None if rows is None else self.within(rows)

    def within(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows that belong to it."""
        if self.only is None:
            return rows
        return rows.filter(pl.col("integration").is_in(sorted(self.only)))

    def has(self, log: str) -> bool:
        """Return True if the log, such as okta/system_log, belongs to it."""
        return self.only is None or log.partition("/")[0] in self.only


Advance = Callable[[int, int], None]
"""Called with the number of records proved so far and of all."""


def pack(
    lake: Lake,
    question: Question,
    out: Path,
    now: datetime,
    advance: Advance | None = None,
    *,
    only: Collection[str] | None = None,
) -> dict[str, int]:
    """Write the pack to `out`; return the number of its events and records.

    With `only`, it has nothing of other integrations than these, and names them.

    Raises LakeError if signing is off, AuditlakeError if the query is invalid, and proofs.Invalid
    if the finished pack fails its own check.
    """
    settings = lake.integrity
    if settings is None or not settings.sign:
        raise LakeError("evidence packs need signed records: set integrity.sign = true")
    signing, trusted = keys.signing(settings), keys.trusted(settings)
    scope = _Scope(lake=lake, only=only)
    people = identity_table.people_of(scope.rows(identity_table.TABLE.name))
    events = _events(scope, question, people)
    proved = []
    for proof in _proofs(lake, events):
        proved.append(proof)
        if advance:
            advance(len(proved), events.height)
    about = _about(question, people, now, events, proved)
    if only is not None:
        about["integrations"] = sorted(only)
    files = {
        "README.md": _README.read_bytes(),
        "__main__.py": Path(audit.__file__).read_bytes(),
        "proofs.py": Path(proofs.__file__).read_bytes(),
        "keys.txt": _lines(trusted),
        "query.json": _json(about),
        "events.ndjson": events.drop(PERSON).write_ndjson().encode(),
        "identities.ndjson": _identities(scope, question.persons(people), events)
        .write_ndjson()
        .encode(),
        "records.ndjson": b"".join(_json(proof) for proof in proved),
        "coverage.ndjson": _coverage(scope, question).write_ndjson().encode(),
        "acts.ndjson": b"".join(_json(act) for act in _acts(scope, trusted)),
        **_log_files(scope, settings, question),
    }
    manifest = [audit.MANIFEST, *(f"{sha256(files[n]).hexdigest()}  {n}" for n in files), ""]
    files["manifest.txt"] = note.signed("\n".join(manifest), signing)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    audit.check_pack(str(out), trusted)
    return {"events": events.height, "records": len(proved)}


def _events(scope: _Scope, question: Question, people: People) -> pl.DataFrame:
    table = scope.within(tables.existing(scope.lake, "events"))
    span = pl.col("time").is_between(question.since, question.until, "left")
    try:
        found = people.named(table).filter(span, question.condition(people))
        return found.sort("time", "event_uid").collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = " ".join(str(error).split())[:200]
        raise AuditlakeError(
            f"--query: {reason}: use an SQL condition on the columns of events, "
            "such as \"actor_email = 'ada@example.com' AND outcome = 'failure'\""
        ) from None


def _logs(events: pl.DataFrame) -> list[tuple[str, list[int], list[Any]]]:
    """Return (log, seqs, dates) of the records that the events were derived from, by log."""
    groups = events.group_by("integration", "stream").agg(
        pl.col("seq").unique().sort(), pl.col("date").unique()
    )
    named = ((f"{name}/{stream}", seqs, dates) for name, stream, seqs, dates in groups.iter_rows())
    return sorted(named, key=lambda log: log[0])


def _proofs(lake: Lake, events: pl.DataFrame) -> Iterator[prove.Document]:
    for name, seqs, dates in _logs(events):
        table, maker = tables.scan(lake, f"raw/{name}"), prove.prover(lake, name)
        if table is None:
            raise LakeError(f"raw/{name}: the table is missing: run `auditlake verify`")
        # The dates only prune partitions; seq identifies the row.
        wanted = pl.col("date").is_in(dates), pl.col("seq").is_in(seqs)
        for row in table.filter(*wanted).sort("seq").collect().iter_rows(named=True):
            yield maker.record(row)


def _log_files(scope: _Scope, settings: IntegritySettings, question: Question) -> dict[str, bytes]:
    """Return the checkpoints of all logs, and their leaves from the time range on.

    That the query found nothing in a log is evidence too.
    """
    lake = scope.lake
    shelf = LogFiles(root=lake.uri("integrity"), options=lake.storage_options or {})
    found = {}
    for name in shelf.pairs():
        folder = log_files.of(lake, f"integrity/{name}")
        # Before the checkpoint, so that no round that is signed meanwhile is ahead of it.
        cosigned = witnesses.stored(folder, settings)
        note = shelf.read(f"{name}/checkpoint")
        if note and not name.startswith("acts/") and scope.has(name):
            file = name.replace("/", ".")
            found[f"checkpoints/{file}.txt"] = note
            found[f"leaves/{file}.ndjson"] = leaves.listed(lake, name, note, question.since)
            found[f"cosignatures/{file}.ndjson"] = b"".join(
                _json(each) for each in _cosigned(folder, cosigned, note.decode())
            )
    return found


def _cosigned(folder: Folder, notes: list[str], checkpoint: str) -> Iterator[dict[str, Any]]:
    """Yield the checkpoints that witnesses have cosigned, with proofs that the log extends them."""
    head = proofs.checkpoint_in(checkpoint.rpartition("\n\n")[0] + "\n")
    subtree = tiles.subtree(folder, head.size)
    for text in notes:
        # Whatever is wrong with a cosigned checkpoint, `verify` reports it.
        with suppress(proofs.Invalid, LookupError, ValueError):
            old = proofs.checkpoint_in(text.rpartition("\n\n")[0] + "\n")
            small = old.size in (0, head.size) or old.size > head.size
            path = [] if small else merkle.consistency(old.size, 0, head.size, subtree)
            proofs.check_consistency(old, head, path)
            yield {"note": text, "path": [b64encode(each).decode() for each in path]}


def _coverage(scope: _Scope, question: Question) -> pl.DataFrame:
    """Return the coverage of the time range: without it, an empty result proves nothing."""
    table = scope.rows("coverage")
    if table is None:
        return pl.DataFrame()
    overlaps = (pl.col("since") < question.until) & (pl.col("until") > question.since)
    return stream_state.valid(table).filter(overlaps).drop("cursor").sort("asked_at").collect()


def _identities(scope: _Scope, meant: list[str], events: pl.DataFrame) -> pl.DataFrame:
    """Return the accounts of the persons whom the search found, or meant, by an account."""
    table = scope.rows(identity_table.TABLE.name)
    persons = sorted({*events[PERSON].drop_nulls(), *meant})
    if table is None or not persons:
        return pl.DataFrame()
    return table.filter(pl.col(PERSON).is_in(persons)).sort(pl.all()).collect()


def _acts(scope: _Scope, trusted: list[str]) -> list[dict[str, Any]]:
    options = scope.lake.storage_options or {}
    shelf = LogFiles(root=scope.lake.uri("integrity/acts"), options=options)
    acts = operator_acts.read(shelf, trusted)
    return [act for act in acts if scope.has(_log_of(act))]


def _log_of(act: dict[str, Any]) -> str:
    """Return the log or the integration that an act is about; "" if it is about all."""
    log: str = act.get("log") or act.get("table", "").removeprefix("raw/")
    return log or act.get("part", "").removeprefix("integrations/")


def _about(
    question: Question,
    people: People,
    now: datetime,
    events: pl.DataFrame,
    proofs: list[prove.Document],
) -> dict[str, Any]:
    return {
        "query": question.query,
        "search": question.search,
        "condition": question.described(people),
        "since": question.since.isoformat(),
        "until": question.until.isoformat(),
        "made_at": now.isoformat(),
        "events": events.height,
        "records": len(proofs),
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "entry": "auditlake/1",
    }


def _as_text(condition: pl.Expr) -> str:
    # By default, Polars shortens long lists of values.
    with pl.Config(fmt_table_cell_list_len=-1):
        return str(condition)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _lines(texts: list[str]) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()
