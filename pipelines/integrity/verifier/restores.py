"""Reports recorded restores of a table, and compares checkpoints of its former log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipelines.integrity.verifier import operator_acts
from pipelines.integrity.verifier.job import ACTS, LakeView, TableReport
from pipelines.integrity.verifier.known_checkpoints import KnownCheckpoint, Unavailable
from pipelines.integrity.verifier.proofs import Invalid, checkpoint_in

Known = KnownCheckpoint | Unavailable


def report(
    place: LakeView, table: str, verdict: TableReport, known: Sequence[Known]
) -> list[Known]:
    """Note the restores of a table, and return the known checkpoints to compare the log with.

    Those of a former log count for the entries that the log was continued from; later ones are
    noted only, since the act states that they are lost.
    """
    acts = [act for act in _acts(place) if act.get("table") == table]
    verdict.notes += [_note(act) for act in acts]
    former = dict(_former(acts))
    return [each for seen in known for each in _compared(seen, former, verdict)]


def _acts(place: LakeView) -> list[dict[str, Any]]:
    try:
        acts = operator_acts.read(place.shelf(ACTS), place.keys)
    except Invalid:  # reported as a finding on the acts
        return []
    return [act for act in acts if act.get("act") == operator_acts.RESTORED]


def _note(act: Mapping[str, Any]) -> str:
    at, made, who, why = (str(act.get(name)) for name in ("at", "backup", "who", "why"))
    lost = f"{act.get('rows')} rows lost"
    if "former" in act:
        newest = str(act["former"]).split("\n")
        named = " ".join(newest[:2])
        lost = f"its log was lost and continues after {act.get('kept')} entries, formerly {named}"
    return f"RESTORED on {at} by {who} from the backup of {made}: {lost} ({why})"


def _former(acts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield (origin of a former log, (entries it shares with the present one, its successor))."""
    least: int | None = None
    newest = ""
    for act in reversed(acts):
        kept, origin = act.get("kept"), act.get("origin")
        if "former" in act and type(kept) is int and isinstance(origin, str):
            newest = newest or origin
            least = kept if least is None else min(least, kept)
            try:
                yield checkpoint_in(str(act["former"])).origin, (least, newest)
            except Invalid:
                return


def _compared(
    seen: Known, former: Mapping[str, tuple[int, str]], verdict: TableReport
) -> Iterator[Known]:
    if isinstance(seen, Unavailable) or seen.head.origin not in former:
        yield seen
        return
    shared, origin = former[seen.head.origin]
    if seen.head.size <= shared:
        yield replace(seen, head=replace(seen.head, origin=origin))
    else:
        verdict.notes.append(
            f"{seen.where} covers {seen.head.size:,} entries of the former log; a restore has lost "
            f"those from {shared:,}"
        )
