"""One odd element in a list costs itself alone, for every list of every vendor."""

import pytest

from tests.mapping import rows

EXPLODED = {"events"}  # its elements are rows
WHOLE = {"summary"}  # stored as JSON if it is a list


def with_odd(odd):
    """Return a change that puts an odd element before and after those of a list of objects."""

    def change(path, value):
        if not isinstance(value, list) or path[-1] in EXPLODED | WHOLE:
            return None
        plain = not all(isinstance(item, dict) for item in value)
        return None if not value or (plain and odd is not None) else [odd, *value, odd]

    return change


@pytest.mark.parametrize("odd", [None, "odd", []], ids=repr)
@pytest.mark.parametrize(("kind", "stream"), rows.STREAMS)
def test_an_odd_element_costs_itself_alone(kind, stream, odd):
    given = rows.records(kind, stream)
    pairs = [
        (number, changed)
        for number, record in enumerate(given)
        for changed in rows.everywhere(record, with_odd(odd))
    ]
    expected = _by_record(rows.rows(kind, stream, *given))
    found, faults = rows.normalised(kind, stream, [changed for _, changed in pairs])
    assert set(faults) <= set(rows.normalised(kind, stream, given)[1])
    changed = _by_record(found.to_dicts())
    assert [changed[n] for n in range(len(pairs))] == [expected[number] for number, _ in pairs]


def _by_record(events):
    found = {}
    for row in events:
        found.setdefault(row["seq"], []).append(_comparable(row))
    return found


def _comparable(row):
    return {k: v for k, v in row.items() if k not in ("event_uid", "event_id", "seq")}
