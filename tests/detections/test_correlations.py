"""Correlations over event time, beside a naive meaning, and whatever the order of arrival."""

import random
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.detections import correlations, rules, ruleset, windows
from pipelines.detections.correlations import Correlation
from pipelines.detections.paths import Path
from pipelines.schemas import FINDINGS, HITS, Timestamp
from tests.detections.drawn_rules import document
from tests.detections.ruled import START, written

MINUTE = timedelta(minutes=1)
A, B, C = (f"0000000{n}-0000-4000-8000-000000000000" for n in (1, 2, 3))
IDS = {"a": A, "b": B, "c": C}


def base(name, **logsource):
    made = document({"s": {"x": name}, "condition": "s"}, **logsource)
    return {**made, "id": IDS[name], "name": name}


def correlation(kind, condition=None, parts=("a", "b", "c"), **more):
    given = {"type": kind, "rules": [*parts], "timespan": "10m", "group-by": ["who"], **more}
    given |= {"condition": condition} if condition else {}
    return {"title": kind, "id": "00000009-0000-4000-8000-000000000000", "correlation": given}


def compiled(folder, *documents):
    loaded = rules.load([written(folder, *documents)])
    assert loaded.problems == ()
    return ruleset.compiled(loaded)


@pytest.fixture
def made(tmp_path):
    def make(*given, **more):
        parts = [base(name) for name in "abc"]
        found = compiled(tmp_path, *parts, correlation(*given, **more))
        ((_, one),) = found.correlations.items()
        return one

    return make


def hits(*rows):
    """Return hits of (rule, minute, event) or (rule, minute, event, group, value)."""
    full = [(*row, "ada", "v")[:5] if len(row) == 3 else (*row, "v")[:5] for row in rows]
    return pl.DataFrame(
        {
            "rule_id": [IDS[row[0]] for row in full],
            "time": [START + row[1] * MINUTE for row in full],
            "event": [str(row[2]) for row in full],
            "group.who": [row[3] for row in full],
            "group.what": [row[4] for row in full],
        },
        schema={
            "rule_id": pl.String,
            "time": Timestamp,
            "event": pl.String,
            "group.who": pl.String,
            "group.what": pl.String,
        },
    )


def events(correlation, rows):
    return correlations.findings(correlation, rows)["events"].to_list()


def test_a_burst_is_counted_across_the_boundary_of_spans(made):
    many = made("event_count", {"gte": 4})
    burst = [("a", 8, 1), ("a", 9, 2), ("b", 11, 3), ("a", 12, 4)]
    found = correlations.findings(many, hits(*burst)).to_dicts()
    assert [(f["window_start"], f["first"], f["last"], f["count"]) for f in found] == [
        (START, START + 8 * MINUTE, START + 12 * MINUTE, 4)
    ]
    assert events(many, hits(*burst[:3], ("a", 18, 4))) == []


def test_groups_are_apart_and_compared_in_any_case(made):
    many = made("event_count", {"gte": 2})
    rows = hits(
        ("a", 1, 1, "Ada@x"),
        ("a", 2, 2, "ada@X"),
        ("a", 3, 3, "eve"),
        ("a", 4, 4, None),
        ("a", 4, 5, None),
    )
    found = correlations.findings(many, rows)
    assert found["group.who"].to_list() == ["ada@x"]
    assert found["events"].to_list() == [["1", "2"]]


def test_distinct_values_are_counted(made):
    spray = made("value_count", {"gt": 2, "field": "what"})
    rows = [("a", n, n, "ip", value) for n, value in enumerate(["u1", "u2", "U1", "u3"])]
    assert events(spray, hits(*rows[:3])) == []
    assert events(spray, hits(*rows)) == [["0", "1", "2", "3"]]


def test_all_rules_in_any_order_or_in_theirs(made):
    together, sequence = made("temporal"), made("temporal_ordered")
    ordered = hits(("a", 1, 1), ("a", 2, 2), ("b", 3, 3), ("c", 4, 4))
    mixed = hits(("c", 1, 1), ("a", 2, 2), ("b", 3, 3))
    assert events(together, ordered) == events(sequence, ordered) == [["1", "2", "3", "4"]]
    assert (events(together, mixed), events(sequence, mixed)) == ([["1", "2", "3"]], [])
    same = hits(("a", 1, 1), ("b", 1, 1), ("c", 2, 2))
    assert (events(together, same), events(sequence, same)) == ([["1", "2"]], [])
    assert events(sequence, hits(("a", 1, 2), ("b", 1, 1), ("c", 1, 3))) == [["1", "2", "3"]]


def test_fewer_than_is_counted_in_whole_spans(made):
    few = made("event_count", {"lt": 2})
    found = correlations.findings(few, hits(("a", 1, 1), ("a", 2, 2), ("a", 13, 3)))
    assert found["window_start"].to_list() == [START + 10 * MINUTE]


def naive(correlation, rows):
    """Return {(start, group): events} by trying each event as the beginning of a window."""
    found = {}
    seen = {(r["rule_id"], r["event"]): r for r in rows if r["group.who"] is not None}.values()
    for first in seen:
        window = [
            r
            for r in seen
            if r["group.who"].lower() == first["group.who"].lower()
            and first["time"] <= r["time"] < first["time"] + correlation.span
        ]
        if holds(correlation, first, window):
            number = (first["time"] - correlations._EPOCH) // correlation.span
            key = (correlations._EPOCH + number * correlation.span, first["group.who"].lower())
            found.setdefault(key, set()).update(r["event"] for r in window)
    return found


def holds(correlation, first, window):
    if correlation.type == "event_count":
        return len({r["event"] for r in window}) >= correlation.count
    if correlation.type == "value_count":
        return len({r["group.what"].lower() for r in window}) >= correlation.count
    if correlation.type == "temporal":
        return len({r["rule_id"] for r in window}) >= correlation.count
    reached = [first] if first["rule_id"] == A else []
    for part in (B, C):
        reached = [
            r
            for r in window
            if r["rule_id"] == part
            and any(r["time"] >= b["time"] and r["event"] != b["event"] for b in reached)
        ]
    return bool(reached)


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 30),
        st.integers(0, 9),
        st.sampled_from(["ada", "ADA", "eve", None]),
        st.sampled_from(["x", "X", "y", "z"]),
    ),
    max_size=25,
    # An event has one time, one group and one value, whichever rule it matches.
    unique_by=lambda row: row[2],
)
KINDS = {
    "event_count": {"gte": 3},
    "value_count": {"gte": 2, "field": "what"},
    "temporal": None,
    "temporal_ordered": None,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_naive_meaning_agrees_and_the_order_of_arrival_does_not_matter(made, kind):
    one = made(kind, KINDS[kind])

    @settings(max_examples=40)
    @given(ROWS, st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 9))), st.randoms())
    def check(rows, more, random):
        extra = [(rule, *row[1:]) for row in rows for rule, event in more if event == row[2]]
        given = hits(*rows, *extra)
        found = correlations.findings(one, given)
        got = {(f["window_start"], f["group.who"]): {*f["events"]} for f in found.to_dicts()}
        assert got == naive(one, given.to_dicts())
        shuffled = given.sample(fraction=1, shuffle=True, seed=random.randrange(1000))
        assert correlations.findings(one, pl.concat([shuffled, shuffled])).equals(found)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_late_event_changes_only_the_findings_it_can_reach(made, kind):
    one = made(kind, KINDS[kind])

    @settings(max_examples=25)
    @given(ROWS.filter(bool))
    def check(rows):
        early, late = hits(*rows[1:]), hits(*rows[:1])
        before = correlations.findings(one, early)
        after = correlations.findings(one, pl.concat([early, late]))
        touched = correlations.starts(one, late["time"])
        outside = ~pl.col("window_start").is_in([*touched])
        assert after.filter(outside).equals(before.filter(outside))
        for start in touched:
            since, until = correlations.reach(one, start)
            near = pl.concat([early, late]).filter(pl.col("time").is_between(since, until, "left"))
            again = correlations.findings(one, near, {start})
            assert again.equals(after.filter(pl.col("window_start") == start))

    check()


def test_fields_are_named_per_rule_or_are_columns_of_events(tmp_path):
    aliases = {"who": {"a": "actor.alternateId", B: "userPrincipalName"}}
    okta, entra = {"product": "okta"}, {"product": "azure", "service": "signinlogs"}
    group = {"group-by": ["who", "actor_email", "person"]}
    made = compiled(
        tmp_path,
        {**base("a", **okta), "detection": {"s": {"eventType": "x"}, "condition": "s"}},
        {**base("b", **entra), "detection": {"s": {"resultType": 0}, "condition": "s"}},
        correlation("temporal", parts=("a", "b"), aliases=aliases, **group),
    )
    (one,) = made.correlations.values()
    assert isinstance(one, Correlation)
    assert one.wanted == {
        A: {"who": (Path("actor.alternateId"),)},
        B: {"who": (Path("userPrincipalName"),)},
    }
    assert made.silent == {A, B}
    assert made.streams(one.rule.id)[:2] == ("okta/system_log", "entra_id/sign_ins")
    with pytest.raises(ValueError, match="no column actor_email"):
        correlations.findings(one, hits(("a", 1, 1)))


REFUSED = [
    (correlation("temporal", parts=("a", "z")), "its rule z is missing"),
    (correlation("temporal", parts=("a", "b")), "its rule b is refused: no stream"),
    (correlation("temporal", "a and not c", parts=("a", "c")), "conditions with and, or and not"),
    (correlation("value_sum", {"gte": 2, "field": "x"}, parts=("a",)), "of type value_sum"),
    (correlation("temporal_ordered", {"gte": 1}, parts=("a", "c")), "leave the condition out"),
    (correlation("event_count", {"gte": 1}, ("c",), **{"group-by": ["nope"]}), "field nope is not"),
    (correlation("event_count", {"gte": 1}, ("a",), timespan="soon"), "imespan"),
]


@pytest.mark.parametrize(("one", "reason"), REFUSED)
def test_a_correlation_without_meaning_here_is_refused(tmp_path, one, reason):
    okta = {**base("c", product="okta"), "detection": {"s": {"eventType": "x"}, "condition": "s"}}
    made = compiled(tmp_path, base("a"), base("b", product="windows"), okta, one)
    assert made.correlations == {}
    assert reason in made.refused[one["id"]].reason


def test_rules_that_serve_a_correlation_may_be_findings_of_their_own(tmp_path):
    one = correlation("event_count", {"gte": 2}, ("a",), generate=True)
    assert compiled(tmp_path, base("a"), one).silent == frozenset()


@pytest.mark.parametrize(
    ("kind", "condition"),
    [
        ("event_count", {"gte": 5}),
        ("event_count", {"lte": 2}),
        ("value_count", {"field": "what", "gt": 2}),
        ("temporal", None),
        ("temporal_ordered", None),
    ],
)
def test_windows_have_the_same_findings_as_all_hits(tmp_path, kind, condition):
    found = compiled(tmp_path, *map(base, "abc"), correlation(kind, condition))
    (one,) = found.correlations.values()
    draw = random.Random(kind)
    drawn = [
        (draw.choice("abc"), draw.randrange(400), event, draw.choice("xy"), draw.choice("uvw"))
        for event in range(150)
    ]
    run = windows.Run(now=START, ruleset="", has_gap=lambda *_: False)
    rows = stored(one, hits(*drawn))
    some, none = windows.touched(found, rows), pl.DataFrame(schema=FINDINGS)
    made = windows.revisions(found, some, rows, none, run).sort("since", "entity")
    expected = correlations.findings(one, hits(*drawn)).sort("first", "group.who")
    assert 3 < made.height < 150
    assert made["event_uids"].to_list() == expected["events"].to_list()
    assert made["time"].to_list() == expected["last"].to_list()


def stored(one, rows):
    """Return hits as rows of schemas.HITS."""
    known = {
        "correlation": pl.lit(one.rule.id),
        "logic_sha256": pl.lit(one.rule.logic_hash),
        "uid": pl.col("event"),
        "group": pl.concat_list("group.who"),
        "counted": pl.col("group.what"),
    }
    rows = rows.with_columns(**known)
    missing = [pl.lit(None, HITS[name]).alias(name) for name in HITS if name not in rows.columns]
    return rows.with_columns(missing).select(*HITS)
