"""The notebook runs from its first cell to its last on a lake the sandbox filled."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


@pytest.mark.filterwarnings("ignore")
def test_the_tour_answers_its_questions(still_world, monkeypatch):
    still_world.poll("okta")
    monkeypatch.setitem(os.environ, "AUDITLAKE_LAKE__ROOT", still_world.lake.root)
    book = nbformat.read(TOUR, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    answered = [cell for cell in book.cells if cell.cell_type == "code" and cell.outputs]
    assert len(answered) == 8
    pictures = [cell for cell in answered if "vega" in str(cell.outputs)]
    assert len(pictures) == 2
