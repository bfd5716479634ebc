"""Rules from files and folders."""

import os

import pytest

from pipelines.detections import rules
from tests.detections.drawn_rules import document
from tests.detections.ruled import written

DETECTION = {"s": {"a": "x"}, "condition": "s"}


def rule(number, **more):
    return {**document(DETECTION), "id": f"{number:08}-0000-4000-8000-000000000000", **more}


def loaded(*places):
    found = rules.load(places)
    return [r.title for r in found.rules], [(p.file.name, p.reason) for p in found.problems]


def test_a_rule_keeps_the_texts_that_are_shown_with_a_match(tmp_path):
    texts = {
        "title": "Role granted",
        "name": "role_granted",
        "author": "Ada",
        "license": "DRL-1.1",
        "level": "high",
        "tags": ["attack.t1098"],
        "references": ["https://example.com/a"],
        "falsepositives": ["New administrators"],
        "description": "A role.",
    }
    (one,) = rules.load([written(tmp_path, rule(1, **texts))]).rules
    del texts["falsepositives"]
    assert {key: getattr(one, key) for key in texts} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in texts.items()
    }
    assert one.false_positives == ("New administrators",)
    assert (one.product, one.status) == ("jumpcloud", "test")


def test_the_hash_is_of_the_logic_and_not_of_the_texts(tmp_path):
    def digest(one):
        (found,) = rules.load([written(tmp_path, one)]).rules
        return found.logic_hash

    first = digest(rule(1))
    other_texts = rule(1, title="Other", level="high", tags=["attack.t1098"], author="Eve")
    assert digest(dict(reversed(other_texts.items()))) == first
    assert digest(rule(1, detection={**DETECTION, "s": {"a": "y"}})) != first
    assert digest(rule(1, logsource={"product": "okta"})) != first


def test_the_hash_of_a_correlation_includes_the_rules_it_refers_to(tmp_path):
    correlation = {
        "title": "Many",
        "id": "99999999-0000-4000-8000-000000000000",
        "correlation": {
            "type": "event_count",
            "rules": ["base"],
            "timespan": "5m",
            "condition": {"gte": 3},
        },
    }

    def digest(base):
        found = rules.load([written(tmp_path, base, correlation)])
        return found.named(correlation["id"]).logic_hash

    first = digest(rule(1, name="base"))
    assert digest(rule(1, name="base", title="Other")) == first
    assert digest(rule(1, name="base", detection={**DETECTION, "s": {"a": "y"}})) != first


def test_folders_are_searched_and_each_file_is_read_once(tmp_path):
    written(tmp_path, rule(1, title="A"), name="b/a.yml")
    written(tmp_path, rule(2, title="B"), rule(3, title="C"), name="a.yaml")
    written(tmp_path, [{"record": {}}], name="b/a.tests.yml")
    written(tmp_path, rule(4), name=".git/hidden.yml")
    written(tmp_path, {"some": "settings"}, name="config.yml")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "twice.yml").symlink_to(tmp_path / "a.yaml")
    assert loaded(tmp_path, tmp_path / "a.yaml") == (["B", "C", "A"], [])


LAYERS = [b"k0: &k0 [x]"] + [
    b"k%d: &k%d [%s]" % (n, n, b",".join([b"*k%d" % (n - 1)] * 10)) for n in range(1, 10)
]
BOMB = b"\n".join([b"title: T", *LAYERS])

BAD = {
    "broken.yml": (b"title: [", "not valid YAML: line "),
    "binary.yml": (b"title: \xff", "not UTF-8 text"),
    "deep.yml": (b"[" * 500_000, "nested too deeply"),
    "blocks.yml": (b"- " * 340_000, "nested too deeply"),
    "huge.yml": (b"#" * (rules.MOST_BYTES + 1), "larger than 1 MiB"),
    "tagged.yml": (b"title: !!python/object/apply:os.system ['true']", "not valid YAML"),
    "bomb.yml": (BOMB, "not valid YAML"),
    "no_id.yml": (b"title: T\nlogsource: {product: okta}\ndetection: {a: {b: c}}", "T: give it an"),
    "odd.yml": (b"title: 5\nlogsource: 7\ndetection: [1]\nid: x", "5: give it a log source"),
    "action.yml": (b"title: T\naction: global\ndetection: {}", "T: collections"),
    "filter.yml": (b"title: T\nfilter: {}\nlogsource: {product: okta}", "T: Sigma filters"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_rule_is_reported_and_the_others_are_read(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    written(tmp_path, rule(1), name="z.yml")
    titles, problems = loaded(tmp_path)
    assert titles == ["Drawn"]
    ((file, found),) = problems
    assert file == name
    assert found.startswith(reason)
    assert "\n" not in found


def test_a_second_rule_with_the_same_id_is_an_error(tmp_path):
    written(tmp_path, rule(1, title="First"), name="a.yml")
    written(tmp_path, rule(1, title="Second"), name="b.yml")
    titles, ((file, reason),) = loaded(tmp_path)
    assert (titles, file) == (["First"], "b.yml")
    assert reason.startswith("Second: the id 00000001-")


def test_places_that_are_missing_or_not_readable_are_reported(tmp_path):
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "notes.yml").write_text("- a list")
    assert loaded(tmp_path) == ([], [])
    assert loaded(tmp_path / "missing", tmp_path / "pipe.yml", tmp_path / "notes.yml") == (
        [],
        [("missing", "not found"), ("pipe.yml", "not found"), ("notes.yml", "not a Sigma rule")],
    )
