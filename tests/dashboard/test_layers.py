"""Charts in layers that are not validated when they are drawn."""

from __future__ import annotations

import altair as alt
import polars as pl
import pytest

from dashboard.layers import Layers

ROWS = pl.DataFrame({"n": [1]})


def bars(width: object = 2) -> alt.Chart:
    chart: alt.Chart = alt.Chart(ROWS).mark_bar(width=width).encode(x=alt.X("n:Q"))
    return chart


def test_the_specification_is_that_of_altair() -> None:
    assert Layers(layer=[bars(), bars()]).to_dict() == alt.layer(bars(), bars()).to_dict()


def test_a_fault_is_found_by_a_validation_alone() -> None:
    faulty = Layers(layer=[bars(width=[1])])
    assert faulty.to_dict()["layer"][0]["mark"]["width"] == [1]
    with pytest.raises(alt.utils.schemapi.SchemaValidationError):
        faulty.to_dict(validate=True)
