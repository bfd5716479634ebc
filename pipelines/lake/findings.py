"""The tables of detections: what was found, by which evaluation, and what people made of it.

`findings` is append-only and numbered by `seq`. A commit of findings also moves the positions of
the streams whose rows were evaluated.
"""

from __future__ import annotations

from pipelines import schemas
from pipelines.lake.commits import SETTINGS, STATISTICS, Table

_SMALL = {"delta.appendOnly": "true"}
FINDINGS = Table(
    name="findings",
    schema=schemas.FINDINGS,
    about="What rules found in the events, and in which",
    settings={**SETTINGS, STATISTICS: "seq,time,found_at"},
)
EVALUATIONS = Table(
    name="evaluations",
    schema=schemas.EVALUATIONS,
    about="Which rows each set of rules was evaluated on",
    partitions=(),
    settings=_SMALL,
)
RULESETS = Table(
    name="rulesets",
    schema=schemas.RULESETS,
    about="The rules that evaluations refer to",
    partitions=(),
    settings=_SMALL,
)
TRIAGE = Table(
    name="triage",
    schema=schemas.TRIAGE,
    about="What people decided about findings",
    partitions=(),
    settings=_SMALL,
)
EXCEPTIONS = Table(
    name="exceptions",
    schema=schemas.EXCEPTIONS,
    about="Exceptions from rules, recorded in the dashboard",
    partitions=(),
    settings=_SMALL,
)
DELIVERIES = Table(
    name="deliveries",
    schema=schemas.DELIVERIES,
    about="Alerts to be sent, and what became of them",
    partitions=(),
    settings={**SETTINGS, STATISTICS: "seq,time"},
)
