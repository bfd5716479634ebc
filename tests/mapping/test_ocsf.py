"""The mapping tables in integrations/*.csv: valid classes, no dead rows, no missing event.

tests/catalogues/KIND.txt lists the events that a vendor has published, one per line.
"""

import re
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from pipelines import registry
from pipelines.mapping import ocsf
from tests.mapping import rows

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
def test_every_row_is_unique_and_names_an_existing_stream(kind):
    streams = [stream.name for stream in registry.kind(kind).streams(None)]
    rules = ocsf.rules(kind)
    assert [r for r in rules if not any(fnmatchcase(name, r[0]) for name in streams)] == []
    assert [row for row, times in Counter(r[:2] for r in rules).items() if times > 1] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_is_shadowed_by_a_broader_one_above_it(kind):
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
def test_every_event_that_a_vendor_has_published_has_a_row(path):
    actions = path.read_text().split()
    patterns = [pattern for _, pattern, _ in ocsf.rules(path.stem)]
    wide, exact = [p for p in patterns if wild(p)], {p for p in patterns if not wild(p)}
    left = set(actions) - exact
    assert [a for a in left if not any(fnmatchcase(a, pattern) for pattern in wide)] == []
    classify = ocsf.classifier(path.stem)
    stream = registry.kind(path.stem).streams(None)[0].name
    rest = [action for action in actions if classify(stream, action) == ocsf.CATCH_ALL]
    assert len(rest) < len(actions) / 100


VERBS = {
    # Verb, and its past -> the activity in a class for things.
    "create created add added insert generate upload": 1,
    "view viewed read get list": 2,
    "update updated change changed edit edited modify modified rename toggle": 3,
    "delete deleted remove removed revoke revoked": 4,
    "enroll": 6,
    "unenroll": 7,
    "enable enabled": 8,
    "disable disabled": 9,
}
MEANT = {verb: activity for verbs, activity in VERBS.items() for verb in verbs.split()}
THINGS = {3004, 6003}
# A device that gets a user or an enrolment is enrolled.
ENROLMENT = {6: {1}, 7: {4}}


def meant(action):
    """Return the activities meant by the first and the last word of an action."""
    parts = re.split("[^a-z0-9]+", re.sub("(?<=[a-z])(?=[A-Z])", "_", action).lower())
    named = [word for word in parts if word]
    return {MEANT[word] for word in (named[0], named[-1]) if word in MEANT} if named else set()


def published(kind):
    """Return (stream, action) of a vendor's catalogue and of its golden pairs."""
    first = registry.kind(kind).streams(None)[0].name
    path = CATALOGUES / f"{kind}.txt"
    listed = path.read_text().split() if path.exists() else []
    golden = {
        (row["stream"], row["action"])
        for of, stream in rows.STREAMS
        if of == kind
        for row in rows.rows(kind, stream, *rows.records(kind, stream))
        if row["action"]
    }
    return {(first, action) for action in listed} | golden


@pytest.mark.parametrize("kind", KINDS)
def test_no_event_about_a_thing_is_mapped_against_its_verb(kind):
    classify = ocsf.classifier(kind)
    against = [
        (stream, action, found)
        for stream, action in sorted(published(kind))
        for found in [classify(stream, action)]
        if found[0] in THINGS
        and meant(action)
        and found[1] not in meant(action)
        and not ENROLMENT.get(found[1], set()) & meant(action)
    ]
    assert against == []


@pytest.mark.parametrize("path", sorted(CATALOGUES.glob("*.txt")), ids=lambda path: path.stem)
def test_no_row_loses_every_published_event_that_it_matches(path):
    stream = registry.kind(path.stem).streams(None)[0].name
    wide = [r for r in ocsf.rules(path.stem) if wild(r[1]) and fnmatchcase(stream, r[0])]
    exact = {action for _, action, _ in ocsf.rules(path.stem) if not wild(action)}
    actions = [action for action in path.read_text().split() if action not in exact]
    matched, won = set(), set()
    for action in actions:
        matching = [(place, row) for place, row, _ in wide if fnmatchcase(action, row)]
        matched.update(matching)
        won.update(matching[:1])
    answers = {(place, row): answer for place, row, answer in wide}
    specific = {row for row in matched - won if answers[row][1] != ocsf.OTHER}
    lost = [row for row in specific if _differs(row, wide, actions, answers)]
    assert lost == []


def _differs(row, wide, actions, answers):
    """Return whether the winners of all these events are broader and answer otherwise."""
    ours = [action for action in actions if fnmatchcase(action, row[1])]
    winners = [
        next((place, other) for place, other, _ in wide if fnmatchcase(action, other))
        for action in ours
    ]
    literal = len(row[1].replace("*", ""))
    return all(
        len(winner[1].replace("*", "")) < literal and answers[winner][0] == answers[row][0]
        for winner in winners
    )
