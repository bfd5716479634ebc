"""All targets by name: a function that takes any bytes, and raises if its property does not hold.

The docstring of each function states the property.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import json_splitter, proof_reader, verifier, webhooks
from tests.webhooks.conftest import KINDS

INPUTS = Path(__file__).parent / "inputs"
"""Inputs that once violated a property, in a folder per target."""


def _nothing() -> list[bytes]:
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A function to fuzz, and what to start from."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]] = _nothing
    """Valid inputs; none where the bytes only choose how to spoil a valid one."""
    examples: int = 200
    """Examples in the tests."""


TARGETS = {
    "verifier.signed_note": Target(run=verifier.signed_note, seeds=verifier.notes),
    "verifier.checkpoint_text": Target(
        run=verifier.checkpoint_text, seeds=verifier.checkpoint_texts
    ),
    "verifier.vkey": Target(run=verifier.vkey, seeds=verifier.vkeys),
    "verifier.acts": Target(run=verifier.acts, examples=100),
    "verifier.removed_rows": Target(run=verifier.removed_rows, examples=100),
    "verifier.history": Target(run=verifier.history, seeds=verifier.histories),
    "verifier.remembered": Target(run=verifier.remembered, seeds=verifier.records),
    "verifier.anchored": Target(run=verifier.anchored, seeds=verifier.notes),
    "verifier.lake_file": Target(run=verifier.lake_file, examples=25),
    "verifier.state_file": Target(run=verifier.state_file, examples=15),
    "proof_reader.any_file": Target(run=proof_reader.any_file, seeds=proof_reader.any_files),
    "proof_reader.proof": Target(run=proof_reader.proof),
    "proof_reader.growth": Target(run=proof_reader.growth),
    "proof_reader.pack": Target(run=proof_reader.pack, examples=60),
    "proof_reader.archive": Target(run=proof_reader.archive, examples=100),
    "proof_reader.time": Target(run=proof_reader.time, seeds=proof_reader.times),
    "proof_reader.paths": Target(run=proof_reader.paths),
    "json_splitter.array": Target(run=json_splitter.array, seeds=json_splitter.seeds),
    "json_splitter.members": Target(run=json_splitter.members, seeds=json_splitter.seeds),
    "json_splitter.lines": Target(run=json_splitter.lines, seeds=json_splitter.seeds),
    "json_splitter.record": Target(run=json_splitter.record, seeds=json_splitter.seeds),
    **{
        f"webhooks.{kind}": Target(run=webhooks.bodies(kind), seeds=webhooks.body_seeds(kind))
        for kind in KINDS
    },
    "webhooks.spoiled_body": Target(run=webhooks.spoiled_body),
    "webhooks.packed": Target(run=webhooks.packed, seeds=webhooks.packed_seeds),
    "webhooks.secret": Target(run=webhooks.secret),
    "webhooks.request": Target(run=webhooks.request, seeds=webhooks.requests),
}
