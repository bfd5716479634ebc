"""The overlay: rules that are changed without editing them."""

from datetime import UTC, datetime

import pytest

from pipelines.detections import overlay, positions
from pipelines.errors import ConfigurationError
from pipelines.settings.detections import DetectionSettings
from tests.detections.drawn_rules import document
from tests.detections.ruled import hits, written

NOW = datetime(2026, 11, 30, tzinfo=UTC)
FIRST, SECOND, THIRD = (f"{n}1111111-2222-4333-8444-555555555555" for n in (1, 2, 3))
PLAIN = {**document({"s": {"a": "x"}, "condition": "s"}), "id": FIRST, "name": "plain"}
OPEN = {
    **document({"s": {"a|expand": "%people%"}, "condition": "s"}),
    "id": SECOND,
    "title": "Open",
}
BOTH = {
    "title": "Both",
    "id": THIRD,
    "correlation": {
        "type": "event_count",
        "rules": ["plain"],
        "timespan": "5m",
        "condition": {"gte": 2},
    },
}


def read(folder, text="", *, now=NOW, documents=(PLAIN, OPEN, BOTH), **settings):
    rules = written(folder, *documents)
    file = folder / "rules.toml"
    file.write_text(text, encoding="utf-8")
    chosen = DetectionSettings(rules=[rules], overlay=file, **settings)
    return overlay.read(chosen, now)


def digest(book):
    return positions.recorded(book.ruleset)[0]


def refused(book):
    return {id_: one.reason for id_, one in book.ruleset.refused.items()}


def test_without_an_overlay_rules_are_as_written(tmp_path):
    book = read(tmp_path)
    assert refused(book) == {SECOND: "its placeholder %people% has no value"}
    assert (book.disabled, book.exceptions, dict(book.budgets)) == (frozenset(), (), {})


def test_a_level_is_changed_by_id_or_by_name(tmp_path):
    book = read(tmp_path, f'[rules.plain]\nlevel = "critical"\n[rules."{SECOND}"]\nlevel = "low"')
    assert {r.id: r.level for r in book.loaded.rules} == {
        FIRST: "critical",
        SECOND: "low",
        THIRD: "",
    }
    assert book.ruleset.rules[FIRST].rule.level == "critical"
    assert book.loaded.rules[0].logic_hash == read(tmp_path).loaded.rules[0].logic_hash


def test_a_disabled_rule_does_not_run_nor_do_its_correlations(tmp_path):
    book = read(tmp_path, "[rules.plain]\nenabled = false\n[placeholders]\npeople = ['x']\n")
    assert refused(book) == {
        FIRST: "disabled in rules.toml",
        THIRD: "its rule plain is refused: disabled in rules.toml",
    }
    assert book.disabled == {FIRST}
    book = read(tmp_path, f'[rules."{THIRD}"]\nenabled = false')
    assert refused(book)[THIRD] == "disabled in rules.toml"


def test_placeholders_have_values_for_all_rules_or_for_one(tmp_path):
    texts = [{"a": text} for text in ("ada", "ben", "7", "cy")]
    book = read(tmp_path, '[placeholders]\npeople = ["ADA", 7]')
    assert hits(book.ruleset.rules[SECOND], texts) == [0, 2]
    text = f'[placeholders]\npeople = "ada"\n[rules."{SECOND}".placeholders]\npeople = ["ben"]'
    assert hits(read(tmp_path, text).ruleset.rules[SECOND], texts) == [1]


def test_watch_lists_are_values_of_placeholders_too(tmp_path):
    file = tmp_path / "people.txt"
    file.write_text("ben 2026-11-01 2027-01-01\n")
    text, lists = '[placeholders]\npeople = ["ada"]', {"people": file}
    texts = [{"a": text} for text in ("ada", "ben")]
    book = read(tmp_path, text, watch_lists=lists)
    assert hits(book.ruleset.rules[SECOND], texts) == [0, 1]
    later = read(tmp_path, text, watch_lists=lists, now=datetime(2027, 1, 1, tzinfo=UTC))
    assert hits(later.ruleset.rules[SECOND], texts) == [0]
    assert digest(later) != digest(book)
    file.write_text("a b\n")
    (problem,) = read(tmp_path, text, watch_lists=lists).loaded.problems
    assert (problem.file, problem.reason.partition(":")[0]) == (file, "line 1")


EXCEPTION = """
[[rules.plain.exceptions]]
fields = { actor_email = "Robot@example.com", source_ip = ["10.0.0.0/8", "192.0.2.1"] }
owner = "ada@example.com"
reason = "the nightly export"
expires = 2027-05-01
"""


def test_exceptions_have_fields_owner_reason_and_a_day(tmp_path):
    (found,) = read(tmp_path, EXCEPTION).exceptions
    assert found.rule_id == FIRST
    assert found.fields == (
        ("actor_email", ("Robot@example.com",)),
        ("source_ip", ("10.0.0.0/8", "192.0.2.1")),
    )
    assert found.expires == datetime(2027, 5, 1, tzinfo=UTC)
    assert (found.owner, found.reason) == ("ada@example.com", "the nightly export")


@pytest.mark.parametrize("part", ["fields", "owner", "reason", "expires"])
def test_an_exception_without_one_of_them_is_an_error(tmp_path, part):
    lines = [line for line in EXCEPTION.splitlines() if not line.startswith(f"{part} =")]
    with pytest.raises(ConfigurationError, match=rf"rules.plain.exceptions.0.{part}: missing"):
        read(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[rules.plain", "not valid TOML"),
        ("[rule.plain]", "rule: unknown key"),
        ("[rules.plain]\nlevel = 'severe'", "rules.plain.level"),
        ("[rules.plain]\nmax_per_day = 0", "rules.plain.max_per_day"),
        ("[placeholders]\n'a b' = ['x']", "give a name of letters"),
        ("[placeholders]\npeople = [['x']]", "placeholders.people"),
        (EXCEPTION.replace("actor_email", "secret"), "secret: give columns of events"),
        (EXCEPTION.replace("2027-05-01", '"2027-05-01"'), "give a day such as 2027-05-01"),
        (EXCEPTION.replace("ada@example.com", ""), "plain.exceptions.0.owner"),
        (EXCEPTION.replace('"Robot@example.com"', "[]"), "exceptions.0.fields.actor_email"),
    ],
)
def test_an_overlay_that_is_not_valid_is_an_error(tmp_path, text, error):
    with pytest.raises(ConfigurationError, match=error) as raised:
        read(tmp_path, text)
    assert "rules.toml" in str(raised.value)


def test_the_id_of_an_exception_depends_on_rule_and_fields_alone(tmp_path):
    (first,) = read(tmp_path, EXCEPTION).exceptions
    later = EXCEPTION.replace("2027-05-01", "2028-05-01").replace("nightly", "weekly")
    (second,) = read(tmp_path, later).exceptions
    (third,) = read(tmp_path, EXCEPTION.replace("Robot", "Other")).exceptions
    assert first.id == second.id != third.id
    (longest,) = read(tmp_path, later + EXCEPTION).exceptions
    assert longest == second


def test_exceptions_that_have_expired_are_listed(tmp_path):
    book = read(tmp_path, EXCEPTION)
    assert book.expired(NOW) == []
    assert book.expired(datetime(2027, 5, 1, tzinfo=UTC)) == [*book.exceptions]


def test_a_rule_that_is_unknown_or_named_twice_is_reported(tmp_path):
    book = read(tmp_path, f'[rules.other]\n[rules.plain]\n[rules."{FIRST}"]\nmax_per_day = 3')
    assert [problem.reason for problem in book.loaded.problems] == [
        "rules.other: no rule has this id or name",
        f"rules.{FIRST}: its rule is listed twice",
    ]


def test_a_rule_has_a_budget_of_findings(tmp_path):
    assert dict(read(tmp_path, "[rules.plain]\nmax_per_day = 50").budgets) == {FIRST: 50}


def test_a_missing_overlay_is_an_error_only_if_it_is_configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rules = (written(tmp_path, PLAIN),)
    assert overlay.read(DetectionSettings(rules=rules), NOW).ruleset.rules
    chosen = DetectionSettings(rules=rules, overlay=tmp_path / "missing.toml")
    with pytest.raises(ConfigurationError, match=r"detections.overlay: .*missing.toml: not found"):
        overlay.read(chosen, NOW)


def test_the_digest_changes_with_everything_that_changes_findings(tmp_path):
    texts = ["", '[rules.plain]\nlevel = "high"', "[rules.plain]\nenabled = false", EXCEPTION]
    texts += [f"[placeholders]\npeople = ['x']\n[rules.'{SECOND}'.placeholders]\npeople = ['y']"]
    texts += ["[placeholders]\npeople = ['x']", "[placeholders]\npeople = ['y']"]
    found = [digest(read(tmp_path, text)) for text in texts]
    assert len(set(found)) == len(texts)
    assert digest(read(tmp_path, EXCEPTION.replace("nightly", "weekly"))) == found[3]
