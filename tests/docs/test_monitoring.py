"""The alert rules and the Grafana dashboard name metrics and labels that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from pipelines.cli import metrics
from pipelines.lake.stream_state import StateName

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
EXPRESSIONS = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
WORDS = {"up", "time", "rate", "delta", "sum", "min", "by", "on", "unless", "s", "m", "h"}
"""Names in the expressions that are not ours: functions, keywords, units and `up`."""


def series():
    """Return the name of each series with its labels."""
    for each in metrics.ALL:
        family = each.empty()
        ends = {"counter": ("_total",), "summary": ("_sum", "_count")}.get(family.type, ("",))
        for end in ends:
            yield f"{family.name}{end}", set(each.labels)


SERIES = dict(series())


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_existing_series_and_labels(expression):
    text = expression.replace("$__rate_interval", "5m")
    for name, selector in re.findall(r"\b(auditlake_\w+)(?:\{([^}]*)\})?", text):
        assert name in SERIES
        labels = set(re.findall(r"(\w+)=~?\"", selector or ""))
        assert labels <= SERIES[name]
    bare = re.sub(r"\"[^\"]*\"", "", text)
    assert [bare.count(each) for each in "([{"] == [bare.count(each) for each in ")]}"]
    words = set(re.findall(r"[a-z_]+", re.sub(r"\{[^}]*\}", "", bare)))
    assert words <= SERIES.keys() | WORDS | {"integration", "stream", "state", "table", "receiver"}


def test_states_in_alerts_exist():
    named = {
        name
        for expression in EXPRESSIONS
        for value in re.findall(r'state=~?"([^"]*)"', expression)
        for name in value.split("|")
    }
    assert named <= set(StateName.__args__)
    assert named


def test_every_rule_tells_an_operator_where_to_look():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        labels = {"instance", "integration", "stream", "table", "receiver"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert used <= labels


def test_every_metric_but_plain_times_is_on_the_dashboard():
    shown = {name for expression in EXPRESSIONS for name in SERIES if name in expression}
    left = {name for name in SERIES if not name.endswith("_timestamp_seconds")} - shown
    assert left == set()
    assert DASHBOARD["templating"]["list"][1]["definition"] in str(DASHBOARD["templating"])
