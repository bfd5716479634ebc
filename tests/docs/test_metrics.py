"""docs/metrics.md explains every metric."""

import re
from pathlib import Path

from pipelines.cli import metrics

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs/metrics.md").read_text()
ROW = re.compile(r"^\| `(auditlake_\w+)` \| (\w+) \| ([\w, ]+) \| (.+) \|$", re.MULTILINE)


def exposed():
    """Return the name of each metric as it is exposed, its type, labels and meaning."""
    for family, described in ((each.empty(), each) for each in metrics.ALL):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, ", ".join(described.labels), described.about


def test_the_page_lists_each_metric_with_its_type_labels_and_meaning():
    assert ROW.findall(PAGE) == list(exposed())
