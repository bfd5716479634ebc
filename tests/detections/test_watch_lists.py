"""Watch lists as values of placeholders."""

from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from pipelines.detections import watch_lists
from pipelines.detections.compiler import compile_rule
from pipelines.detections.rules import rule_of
from tests.detections.drawn_rules import document
from tests.detections.ruled import hits

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def listed(folder, content, now=NOW):
    file = folder / "list.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = watch_lists.read({"listed": file}, now)
    return found


def matching(values, texts):
    """Return the texts that a rule finds whose value is a placeholder."""
    detection = {"s": {"a|expand": "%listed%"}, "condition": "s"}
    rule = rule_of(document(detection), None)
    compiled = compile_rule(rule, {"listed": values})
    return [texts[place] for place in hits(compiled, [{"a": text} for text in texts])]


def test_a_line_is_a_value_with_the_days_it_was_listed_and_ends(tmp_path):
    found = listed(
        tmp_path,
        "# scanners\n\nada@example.com\n198.51.100.66\t2026-11-02\r\n"
        "evil.example 2026-11-03 2026-12-01 # for a month\ngone.example 2026-01-01 2026-11-30\n",
    )
    assert found.values == ("ada@example.com", "198.51.100.66", "evil.example")
    assert (found.newest, found.expired, found.problems) == (date(2026, 11, 3), 1, ())


def test_a_value_counts_until_the_day_it_ends(tmp_path):
    line = "evil.example 2026-11-03 2026-12-01"
    assert listed(tmp_path, line, datetime(2026, 11, 30, 23, 59, tzinfo=UTC)).values
    assert not listed(tmp_path, line, datetime(2026, 12, 1, tzinfo=UTC)).values


def test_addresses_and_networks_are_spelled_as_in_events(tmp_path):
    found = listed(tmp_path, "2001:DB8::0:1\n10.1.2.3/8\n2001:DB8::/32\n")
    assert found.values == ("2001:db8::1", "10.0.0.0/8", "2001:db8::/32")


def test_lines_that_are_not_valid_are_reported_and_the_others_are_read(tmp_path):
    found = listed(tmp_path, "a b\nc\nd 2026-13-01\ne 2026-01-01 2026-01-02 x\n")
    assert found.values == ("c",)
    assert [each.reason.partition(":")[0] for each in found.problems] == [
        "line 1",
        "line 3",
        "line 4",
    ]


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    assert listed(tmp_path, b"\xff").problems[0].reason == "not UTF-8 text"
    (missing,) = watch_lists.read({"listed": tmp_path / "missing"}, NOW)
    assert (missing.values, missing.problems[0].reason) == ((), "No such file or directory")
    many = "\n".join(map(str, range(watch_lists.MOST_VALUES + 1)))
    assert listed(tmp_path, many).problems[0].reason == "more than 100,000 values: divide it"


@given(st.text(st.sampled_from("ab*?\\%.x"), min_size=1))
def test_a_listed_text_matches_itself_only(tmp_path_factory, text):
    (value,) = listed(tmp_path_factory.getbasetemp(), text).values
    texts = [text, text + "a", "a" + text, text.replace("*", "z"), text.replace("?", "z")]
    assert matching([value], texts) == [other for other in texts if other == text]


def test_a_network_as_the_value_of_a_placeholder_contains_addresses():
    texts = ["10.9.9.9", "10.9.9.9:443", "11.0.0.1", "2001:db8::5", "10.0.0.0/8", "text", None]
    values = ["10.0.0.0/8", "2001:db8::/32", "11.0.0.9"]
    assert matching(values, texts) == ["10.9.9.9", "10.9.9.9:443", "2001:db8::5", "10.0.0.0/8"]
