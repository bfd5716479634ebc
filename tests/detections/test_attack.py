"""Coverage of ATT&CK: techniques by vendor, and the ones without a rule."""

from dataclasses import dataclass

from pipelines.detections import attack


@dataclass(frozen=True)
class Rule:
    product: str
    tags: tuple[str, ...]


def test_rules_are_counted_per_technique_and_vendor():
    rules = [
        Rule("okta", ("attack.persistence", "attack.t1098.003")),
        Rule("okta", ("attack.t1098.003", "attack.t1078")),
        Rule("", ("attack.t1078",)),
    ]
    found = {each.technique: each for each in attack.coverage(rules)}
    assert found["T1098.003"].rules == {"Okta": 2}
    assert found["T1078"].rules == {"Okta": 1, attack.ALL: 1}
    assert found["T1078"].name == "Valid Accounts"


def test_a_technique_without_a_rule_has_a_reason():
    gaps = [each for each in attack.coverage([]) if not each.rules]
    assert [each.technique for each in gaps] == sorted(attack.NOT_COVERED)
    assert all(each.reason and each.name for each in gaps)


def test_a_technique_with_a_rule_is_no_gap():
    found = attack.coverage([Rule("cloudflare", ("attack.t1190",))])
    assert [each.rules for each in found if each.technique == "T1190"] == [{"Cloudflare": 1}]


def test_the_tables_link_to_the_techniques():
    text = attack.markdown(attack.coverage([Rule("jumpcloud", ("attack.t1548.003",))]))
    assert "[T1548.003](https://attack.mitre.org/techniques/T1548/003/)" in text
    assert "| not covered | reason |" in text
