"""The tables of integrations/*.csv hold: real classes, no dead rows, nothing published left out.

tests/catalogues/KIND.txt lists the events that a vendor has published, one a line.
"""

from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from pipelines import registry
from pipelines.mapping import ocsf

CATALOGUES = Path(__file__).parents[1] / "catalogues"
KINDS = sorted(registry.kinds())


def wild(pattern):
    return any(mark in pattern for mark in "*?[")


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_names_an_activity_of_its_class(kind):
    known = {
        (class_uid, activity)
        for class_uid, (_, activities) in ocsf.CLASSES.items()
        for activity in (*activities, ocsf.OTHER)
    }
    rules = ocsf.rules(kind)
    assert rules
    assert [rule for rule in rules if rule[2] not in known] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_of_a_stream_there_is_and_stands_once(kind):
    streams = [stream.name for stream in registry.kind(kind).streams(None)]
    rules = ocsf.rules(kind)
    assert [r for r in rules if not any(fnmatchcase(name, r[0]) for name in streams)] == []
    assert [row for row, times in Counter(r[:2] for r in rules).items() if times > 1] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_hidden_by_a_wider_one_above_it(kind):
    above, hidden = [], []
    for stream, action, _ in ocsf.rules(kind):
        if wild(action):
            hidden += [
                (stream, action, wider)
                for place, wider in above
                if fnmatchcase(stream, place) and fnmatchcase(action, wider)
            ]
            above.append((stream, action))
    assert hidden == []


@pytest.mark.parametrize("path", sorted(CATALOGUES.glob("*.txt")), ids=lambda path: path.stem)
def test_all_that_a_vendor_has_published_has_a_row(path):
    actions = path.read_text().split()
    patterns = [pattern for _, pattern, _ in ocsf.rules(path.stem)]
    wide, exact = [p for p in patterns if wild(p)], {p for p in patterns if not wild(p)}
    left = set(actions) - exact
    assert [a for a in left if not any(fnmatchcase(a, pattern) for pattern in wide)] == []
    classify = ocsf.classifier(path.stem)
    stream = registry.kind(path.stem).streams(None)[0].name
    rest = [action for action in actions if classify(stream, action) == ocsf.CATCH_ALL]
    assert len(rest) < len(actions) / 100
