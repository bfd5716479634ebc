"""How far each rule has been evaluated, read from the sets of rules that were recorded."""

import json

from pipelines.detections import positions
from pipelines.detections.positions import Log, Member
from pipelines.lake.tables import StreamKey
from tests.detections.ruled import read
from tests.detections.watched import correlation, rule

OKTA = Log(key=StreamKey("okta", "system_log"), kind="okta")
JUMPCLOUD = Log(key=StreamKey("jumpcloud", "directory_insights"), kind="jumpcloud")


def ids(members):
    return sorted(int(member.id[:8]) for member in members)


def test_a_stream_is_read_by_rules_over_its_records_and_over_events(tmp_path):
    rules = read(
        tmp_path,
        rule(1, {"eventType": "a"}),
        rule(2, {"action": "a"}, product="auditlake"),
        rule(3, {"action": "a"}, product="auditlake", service="jumpcloud"),
        rule(4, {"event_type": "a"}, product="jumpcloud"),
    )
    assert ids(positions.members(rules, OKTA)) == [1, 2]
    assert ids(positions.members(rules, JUMPCLOUD)) == [2, 3, 4]


def test_a_correlation_has_a_position_and_its_silent_parts_have_none(tmp_path):
    part = rule(1, {"eventType": "a"})
    rules = read(tmp_path, part, correlation(2, [1], gte=3))
    assert ids(positions.members(rules, OKTA)) == [2]
    assert positions.members(rules, JUMPCLOUD) == set()


def test_a_rule_has_reached_the_highest_position_of_its_sets(tmp_path):
    rules = read(tmp_path, rule(1, {"eventType": "a"}), rule(2, {"eventType": "b"}))
    one, two = sorted(positions.members(rules, OKTA))
    texts = [positions.recorded(rules, only)[1] for only in ([one], [one, two])]
    known = positions.sets(texts, OKTA)
    assert sorted(map(ids, known.values())) == [[1], [1, 2]]
    fences = {app: 10 * len(each) for app, each in known.items()}
    assert positions.reached([one, two], known, fences) == {one: 20, two: 20}
    alone = {app: each for app, each in known.items() if len(each) == 1}
    assert positions.reached([one, two], alone, fences) == {one: 10, two: 0}


def test_a_rule_of_another_logic_starts_with_the_first_row(tmp_path):
    rules = read(tmp_path, rule(1, {"eventType": "a"}))
    (member,) = positions.members(rules, OKTA)
    known = positions.sets([positions.recorded(rules)[1]], OKTA)
    fences = dict.fromkeys(known, 5)
    changed = Member(member.id, "another")
    assert positions.reached([member, changed], known, fences) == {member: 5, changed: 0}


def test_the_name_of_a_ruleset_is_the_hash_of_its_json_and_long_lists_are_hashed(tmp_path):
    rules = read(tmp_path, rule(1, {"eventType": "a"}))
    digest, text = positions.recorded(rules)
    assert positions.recorded(rules) == (digest, text)
    assert [each["level"] for each in json.loads(text)["rules"]] == ["high"]
    assert positions._values(["b", "a"]) == ["b", "a"]
    long = positions._values([str(n) for n in range(101)])
    assert (long["count"], len(long["sha256"])) == (101, 64)
