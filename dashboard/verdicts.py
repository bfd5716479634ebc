"""The findings of a verification in words: how serious each kind is, and the next step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["tampered", "damaged", "not signed"]

_RESTORE = (
    "Copy the lake and integrity.folder as they are. Then restore the table from a backup or from "
    "its retained versions until `auditlake verify` reports ok."
)
_WHICH = (
    "Copy the lake and integrity.folder as they are. `auditlake verify --full --table TABLE` lists "
    "the affected rows; the vendor may still have the originals."
)
_WHO_SIGNS = (
    "If integrity.folder was lost or another machine signs, restore the key or add its public key "
    "to integrity.trusted. Otherwise compare with the anchors and your auditor's checkpoints."
)
_PRESERVE = (
    "Keep this lake as evidence and write nothing more to it. Compare with the checkpoints at the "
    "anchors and with your auditor."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    state: State
    words: str
    next: str


def _tampered(words: str, following: str) -> Meaning:
    return Meaning(state="tampered", words=words, next=following)


MEANINGS = {
    "changed": _tampered("Rows were changed after they were signed", _WHICH),
    "deleted": _tampered("Signed rows were deleted", _WHICH),
    "restored": _tampered(
        "Rows that a signed act removed are there again",
        "Find out who wrote to the table, then restore it from a backup made after the removal.",
    ),
    "inserted": _tampered("Rows were inserted among signed ones", _WHICH),
    "duplicated": _tampered("Rows were duplicated", _WHICH),
    "reordered": _tampered("Rows were put in another order", _WHICH),
    "count": _tampered("The number of rows differs from the signed one", _WHICH),
    "truncated": _tampered("The newest signed rows are missing", _RESTORE),
    "rolled back": _tampered("The whole log was set back to an earlier state", _RESTORE),
    "rewritten": _tampered(
        "The history was signed again with other contents, by someone who has the key", _PRESERVE
    ),
    "replaced": _tampered("Another log is in the place of the one known before", _PRESERVE),
    "checkpoint": _tampered("The checkpoint is not signed by a trusted key", _WHO_SIGNS),
    "events": _tampered(
        "Events differ from the records that they were derived from",
        "The records are unaffected. Find out who wrote to `events`, then derive them again with "
        "`auditlake renormalise`.",
    ),
    "acts": _tampered(
        "The signed acts about mapping versions are missing or altered",
        "Copy the lake and integrity.folder as they are. Restore the folder integrity/acts from a "
        "backup, then run `auditlake verify --full`.",
    ),
    "rollups": _tampered(
        "Aggregates of events differ from the events",
        "The records and events are unaffected. Find out who wrote to `rollups`, then delete its "
        "folder; maintenance computes it again.",
    ),
    "text_index": _tampered(
        "The index of texts denies texts that events have, so searches may pass over them",
        "The records and events are unaffected. Find out who wrote to `text_index`, then delete "
        "its folder; maintenance computes it again.",
    ),
    "statistics": _tampered(
        "Files contain other rows than the Delta log states, so searches may pass over them",
        "Find out who wrote to the Delta log, then derive `events` again with `auditlake "
        "renormalise --all`.",
    ),
    "identities": _tampered(
        "Accounts of persons differ from the events that they follow from",
        "Records and events are unaffected. Find out who wrote to `identities`, then delete its "
        "folder; the next maintenance derives it again.",
    ),
    "cosignature": _tampered(
        "A cosignature of a witness is not valid",
        "Records and events are unaffected. Find out who wrote to the folder `cosignatures`, then "
        "delete the file that is named; the next round obtains it again.",
    ),
    "unwitnessed": Meaning(
        state="not signed",
        words="Too few witnesses have seen the newest rows",
        next="Find out why the witnesses do not answer; every round and every hour retries.",
    ),
    "unsigned": Meaning(
        state="not signed",
        words="Rows without a signature are at the end of the table",
        next="The next round signs the fetched rows. If they stay, something else wrote them.",
    ),
    "tiles": Meaning(
        state="damaged",
        words="The rows are as signed, but a file for proofs is damaged",
        next="Delete the folder integrity/…/tile; the next round rebuilds it.",
    ),
    "unreadable": Meaning(
        state="damaged", words="Data files are lost or cannot be read", next=_RESTORE
    ),
    "log": Meaning(
        state="damaged", words="The table's Delta log cannot be read as it is", next=_RESTORE
    ),
}
_UNKNOWN = _tampered("The table is not as it was signed", _WHICH)


def meaning(finding: dict[str, Any]) -> Meaning:
    return MEANINGS.get(str(finding.get("kind")), _UNKNOWN)


def state(findings: list[dict[str, Any]]) -> State:
    """Return the most serious state that the findings of a failed verification mean."""
    states = {meaning(one).state for one in findings}
    if "tampered" in states or not states:
        return "tampered"
    return "damaged" if "damaged" in states else "not signed"
