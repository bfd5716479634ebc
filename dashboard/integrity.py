"""The last verification reports and the checkpoints of each table, as stored in the lake.

Nothing is verified here, and anyone with write access to the lake can forge these files. To be
sure, run `auditlake verify` with a public key from outside the lake.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dashboard import verdicts
from dashboard.sight import EVERYTHING, Sight
from pipelines.integrity.verifier.log_reader import LogFiles
from pipelines.integrity.verifier.proofs import Checkpoint, Invalid, checkpoint_in

STATES = (
    *("verified", "overdue", "not compared", "not verified", "not signed"),
    *("damaged", "tampered"),
)
"""From best to worst."""

_OVERDUE = timedelta(days=1)
_RAW = "raw/"
_OUTLINE = ("table", "ok", "at", "full_at", "uncompared")
_NOT_SHOWN = "those who may see every integration are shown the details"
_SHARED = ("acts", "findings")
"""The logs that belong to no stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table or the log of acts, with its checkpoint and its last verification report."""

    name: str
    signed: Checkpoint | None
    verdict: dict[str, Any]
    """The last report, as printed by `auditlake verify --json`; empty if there is none."""

    @property
    def verified_at(self) -> datetime | None:
        return _moment(self.verdict.get("at"))

    @property
    def all_read_at(self) -> datetime | None:
        return _moment(self.verdict.get("full_at"))

    @property
    def since(self) -> int:
        """Rows signed since the last verification."""
        return (self.signed.size if self.signed else 0) - int(self.verdict.get("size", 0))

    def state(self, now: datetime) -> str:
        if self.verdict and not self.verdict["ok"]:
            if self.verdict.get("uncompared") and not self.findings:
                return "not compared"
            return verdicts.state(self.findings)
        if self.signed is None and (self.name.startswith(_RAW) or not self.verdict):
            return "not signed"
        if self.verified_at is None:
            return "not verified"
        return "verified" if now - self.verified_at < _OVERDUE else "overdue"

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The findings of the last report: kind, seq and detail."""
        found: list[dict[str, Any]] = self.verdict.get("findings", [])
        return found

    @property
    def differing(self) -> list[str]:
        """The records that arrived with contents that contradict each other, in words."""
        found: dict[str, str] = self.verdict.get("differing", {})
        return list(found.values())

    @property
    def found(self) -> str:
        """All findings of the last report in one line."""
        return "; ".join(f"{one['kind'].upper()}: {one['detail']}" for one in self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A published checkpoint."""

    at: datetime
    size: int
    root: str
    signers: str


def tables(lake: LogFiles, sight: Sight = EVERYTHING) -> list[Table]:
    """Return all tables that exist in raw, are signed, or were verified, by name.

    A limited visitor gets the raw tables of their integrations, and the mere state of those tables
    that all integrations share.
    """
    known = _tables(lake)
    if not sight.limited:
        return known
    raw = [one for one in known if _is_raw(one) and sight.has_log(one.name.removeprefix(_RAW))]
    return [*(_outlined(one) for one in known if not _is_raw(one) and one.verdict), *raw]


def _is_raw(table: Table) -> bool:
    return table.name.startswith(_RAW)


def _outlined(table: Table) -> Table:
    """Return the table without numbers and details, which may be about any integration."""
    kept = {key: table.verdict[key] for key in _OUTLINE if key in table.verdict}
    found = [{"kind": one.get("kind"), "detail": _NOT_SHOWN} for one in table.findings]
    return Table(name=table.name, signed=None, verdict={**kept, "findings": found})


def _tables(lake: LogFiles) -> list[Table]:
    verdicts = {one["table"]: one for one in json.loads(_text(lake, "verification.json") or "[]")}
    signed = {f"raw/{name}": name for name in lake.below("integrity").pairs() if _log(name)}
    raw = {f"raw/{name}": name for name in lake.below("raw").pairs()}
    names = {**raw, **signed, **{table: table.removeprefix("raw/") for table in verdicts}}
    names |= {name: name for name in _SHARED if _text(lake, f"{name}/checkpoint")}
    return [
        Table(name=table, signed=_signed(lake, log), verdict=verdicts.get(table, {}))
        for table, log in sorted(names.items())
    ]


def checkpoints(lake: LogFiles, table: str, most: int) -> list[Past]:
    """Return at most `most` checkpoints of a table, newest first."""
    log = lake.below("integrity").below(table.removeprefix("raw/"))
    return [past for _, past in zip(range(most), _newest(log), strict=False)]


def _newest(log: LogFiles) -> Iterator[Past]:
    for file in reversed(log.files("history")):
        for line in reversed((log.read(file) or b"").splitlines()):
            with suppress(ValueError, KeyError, Invalid):  # a kill may truncate a line
                yield _past(json.loads(line))


def _past(line: dict[str, Any]) -> Past:
    text, _, signatures = str(line["note"]).rpartition("\n\n")
    head = checkpoint_in(f"{text}\n")
    signers = [row.split(" ")[1] for row in signatures.splitlines()]
    at = datetime.fromisoformat(line["at"])
    return Past(at=at, size=head.size, root=head.root.hex(), signers=", ".join(signers))


def _signed(lake: LogFiles, log: str) -> Checkpoint | None:
    with suppress(Invalid):  # shown as not signed; verification reports the reason
        return checkpoint_in(_text(lake, f"{log}/checkpoint").partition("\n\n")[0] + "\n")
    return None


def _text(lake: LogFiles, path: str) -> str:
    return (lake.below("integrity").read(path) or b"").decode(errors="replace")


def _log(name: str) -> bool:
    return name.partition("/")[0] not in _SHARED


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def worst_first(known: Sequence[Table], now: datetime) -> list[Table]:
    return sorted(known, key=lambda one: (-STATES.index(one.state(now)), one.name))


def worst(states: Sequence[str]) -> str:
    """Return the most serious of some states."""
    return max(states, key=STATES.index)
