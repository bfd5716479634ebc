"""The notebook's saved answers, and those on a lake filled from the sandbox, name the attack."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from pipelines.lake.tables import Lake
from sandbox import cast
from sandbox.server import Options, running
from tests.conftest import World

TOUR = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"
VICTIM = "theo.vanderberg@larkfield.example"


@pytest.fixture
def saved() -> NotebookNode:
    return nbformat.read(TOUR, as_version=4)


def answers(book: NotebookNode) -> list[str]:
    """Return the outputs of each cell that has any."""
    return [str(cell.outputs) for cell in book.cells if cell.get("outputs")]


def check(book: NotebookNode) -> None:
    found = answers(book)
    assert len(found) == 8
    assert not [one for one in found if "Traceback" in one or "'stderr'" in one or "(0, " in one]
    assert sum("vnd.vegalite" in one for one in found) == 2
    _, _, stuffed, countries, _, complete, *_ = found
    assert all(place.ip in stuffed for place in cast.attackers_places())
    assert VICTIM in stuffed
    assert VICTIM in countries
    intact, of = complete.partition(" records are as they came")[0].rsplit("'", 1)[1].split(" of ")
    assert intact == of


def test_the_saved_answers_are_those_of_the_sandbox(saved: NotebookNode) -> None:
    check(saved)
    # Nothing is loaded from elsewhere, and no path of the machine is shown.
    text = TOUR.read_text()
    assert "<script" not in text
    assert '"/' not in text.replace(" / ", "")


@pytest.mark.filterwarnings("ignore")
def test_the_tour_finds_the_attack_on_the_sandbox(
    saved: NotebookNode, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Options(days=30, per_day=60, rate=0)) as server:
        World(running=server, lake=lake).poll("okta")
    monkeypatch.setitem(os.environ, "AUDITLAKE_LAKE__ROOT", lake.root)
    for cell in saved.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(saved, timeout=120, kernel_name="python3").execute()
    check(saved)
