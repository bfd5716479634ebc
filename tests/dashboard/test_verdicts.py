"""Every kind of finding has its own words and a next step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboard import verdicts
from pipelines.integrity import verifier

SOURCES = Path(verifier.__file__).parent


def kinds() -> set[str]:
    """Return the kinds that the verifier's source names."""
    text = "\n".join(file.read_text() for file in SOURCES.glob("*.py"))
    found = re.findall(r'(?:found\(|kind=|kind, detail = )"([a-z ]+)"', text)
    return {*found, *re.findall(r'found\("([a-z ]+)" if gone else "([a-z ]+)"', text)[0]}


def test_every_kind_of_the_verifier_has_words() -> None:
    assert len(kinds()) > 12
    # A marker inside the verifier, never a finding.
    assert kinds() - {"any"} <= verdicts.MEANINGS.keys()


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("deleted", "tampered"),
        ("rewritten", "tampered"),
        ("tiles", "damaged"),
        ("unsigned", "not signed"),
        ("![x](http://evil.example)", "tampered"),
    ],
)
def test_the_state_fits_the_finding(kind: str, state: str) -> None:
    assert verdicts.state([{"kind": kind}]) == state
    assert verdicts.state([{"kind": "tiles"}, {"kind": kind}]) in (state, "damaged")


def test_a_failed_verification_without_findings_is_the_worst() -> None:
    assert verdicts.state([]) == "tampered"
