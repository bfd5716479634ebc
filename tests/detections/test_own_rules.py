"""Our own rules: each parses, has references and a level, and has records of both kinds."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from sigma.correlations import SigmaCorrelationRule
from sigma.rule import SigmaRule

from pipelines import registry
from pipelines.detections import attack

RULES = Path(__file__).parents[2] / "rules"
README = RULES / "README.md"
PARTS = "correlations/parts"
FOLDERS = {"azure": "entra_id", "m365": "office_365", "gcp": "google_workspace", "auditlake": "any"}


@dataclass(frozen=True)
class Written:
    """A rule as it is in its file, with its records."""

    name: str
    folder: str
    rule: dict[str, Any]
    examples: list[dict[str, Any]]

    @property
    def tags(self) -> list[str]:
        return self.rule["tags"]

    @property
    def product(self) -> str:
        return self.rule.get("logsource", {}).get("product", "")

    @property
    def log(self) -> tuple[str, str]:
        return self.product, self.rule.get("logsource", {}).get("service", "")

    @property
    def records(self) -> list[dict[str, Any]]:
        return [each for example in self.examples for each in example.get("records", [example])]


def _read(file: Path) -> Any:
    return yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)


def _written(file: Path) -> Written:
    examples = _read(file.with_suffix(".tests.yml"))
    folder = file.parent.relative_to(RULES).as_posix()
    return Written(file.stem, folder, _read(file), examples)


@pytest.fixture(scope="module")
def rules() -> list[Written]:
    files = sorted(RULES.rglob("*.yml"))
    return [_written(file) for file in files if not file.name.endswith(".tests.yml")]


def test_every_rule_parses(rules):
    for each in rules:
        kind = SigmaCorrelationRule if "correlation" in each.rule else SigmaRule
        parsed = kind.from_dict(each.rule, collect_errors=True)
        assert not parsed.errors, (each.name, parsed.errors)
        if isinstance(parsed, SigmaRule):
            assert all(one.parsed for one in parsed.detection.parsed_condition), each.name


def test_ids_and_titles_are_unique(rules):
    assert all(UUID(each.rule["id"]).version == 4 for each in rules)
    for key in ("id", "title"):
        (found, times) = Counter(each.rule[key] for each in rules).most_common(1)[0]
        assert times == 1, found


def test_every_rule_can_be_explained(rules):
    for each in rules:
        rule = each.rule
        assert rule["author"] == "auditlake", each.name
        assert rule["license"] == "Apache-2.0", each.name
        assert rule["level"] in ("informational", "low", "medium", "high", "critical"), each.name
        assert len(rule["description"]) >= 30, each.name
        assert rule["falsepositives"], each.name
        assert all(url.startswith("https://") for url in rule["references"]), each.name
        vendors = [url for url in rule["references"] if "attack.mitre.org" not in url]
        assert vendors or "correlation" in rule, each.name


def test_every_rule_names_a_technique_that_has_a_name(rules):
    for each in rules:
        found = attack.techniques(each.tags)
        assert found, each.name
        assert set(found) <= attack.TECHNIQUES.keys(), each.name
    used = {found for each in rules for found in attack.techniques(each.tags)}
    assert attack.TECHNIQUES.keys() == used, "names without a rule"
    assert not used & attack.NOT_COVERED.keys()


def test_there_are_eighty_rules_with_a_technique_and_a_log_of_their_own(rules):
    own = [each for each in rules if each.folder != PARTS]
    pairs = {(tuple(attack.techniques(each.tags)), each.log) for each in own}
    assert len(pairs) >= 80
    # The same idea for several vendors counts once.
    assert len({techniques for techniques, _ in pairs}) >= 80
    assert {each.folder for each in own} >= {*registry.kinds(), "any", "correlations"}


def test_rules_lie_in_the_folder_of_their_vendor(rules):
    for each in rules:
        if "correlation" in each.rule:
            assert each.folder == "correlations", each.name
        elif each.folder != PARTS:
            assert each.folder == FOLDERS.get(each.product, each.product), each.name


def test_correlations_are_made_of_rules_that_exist(rules):
    named = {each.rule["name"] for each in rules if each.folder == PARTS}
    used = {
        part
        for each in rules
        if "correlation" in each.rule
        for part in each.rule["correlation"]["rules"]
    }
    assert used == named


def test_every_rule_has_records_that_match_and_records_that_do_not(rules):
    streams = {
        f"{kind}/{stream.name}"
        for kind, integration in registry.kinds().items()
        for stream in integration.streams(None)
    }
    for each in rules:
        assert {example["matches"] for example in each.examples} == {True, False}, each.name
        assert {record["stream"] for record in each.records} <= streams, each.name


def test_records_name_nobody_who_exists(rules):
    """The domains of the examples are reserved, but for free mail providers, which a rule names."""
    allowed = re.compile(r"@(example\.(com|net|org)|gmail\.com|okta\.com|okta\.example)\b")
    public = re.compile(r"@public\.calendar\.google\.com")
    for each in rules:
        for found in re.findall(r"[\w.+-]+@[\w.-]+\w", str(each.examples)):
            domain = found[found.index("@") :]
            assert allowed.match(domain) or public.match(domain), (each.name, found)


def test_the_page_for_rule_writers_has_the_present_coverage(rules):
    own = [each for each in rules if each.folder != PARTS]
    text = README.read_text(encoding="utf-8")
    assert attack.markdown(attack.coverage(own)) in text, "update the tables of rules/README.md"
    placeholders = set(re.findall(r"%(\w+)%", str([each.rule for each in own])))
    assert all(f"`{name}`" in text for name in placeholders)
