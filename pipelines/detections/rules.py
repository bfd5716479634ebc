"""Rules in the Sigma format, read from files and folders: https://sigmahq.io/docs/basics/rules.html

A file that cannot be read, or a rule that is not valid, is reported and does not stop the others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.rule.base import check_alias_expansion

from pipelines.detections import files

MOST_BYTES = 1 << 20
_MOST_BRACKETS = 5000
_DEEP = re.compile(r"^[-?: \t]{200}", re.MULTILINE)
_KEYS = frozenset({"title", "logsource", "detection", "correlation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule or a correlation of rules, with the texts that are shown with a match."""

    id: str
    name: str
    """The name that correlations may refer to it by; empty if it has none."""
    title: str
    description: str
    author: str
    references: tuple[str, ...]
    license: str
    status: str
    level: str
    tags: tuple[str, ...]
    false_positives: tuple[str, ...]
    product: str
    service: str
    category: str
    file: Path
    logic_hash: str
    """SHA-256 of log source and detection, not of the texts: another one finds other events."""
    parsed: SigmaRule | SigmaCorrelationRule
    faults: tuple[str, ...] = ()
    """Why the detection is not valid."""

    @property
    def is_correlation(self) -> bool:
        return isinstance(self.parsed, SigmaCorrelationRule)

    @property
    def correlates(self) -> tuple[str, ...]:
        """The ids or names of the rules that a correlation refers to."""
        if isinstance(self.parsed, SigmaRule):
            return ()
        return tuple(str(each.reference) for each in self.parsed.rules or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file or a rule in it that cannot be used."""

    file: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    rules: tuple[Rule, ...]
    problems: tuple[Problem, ...]

    def named(self, reference: str) -> Rule | None:
        """Return the rule with this id or name."""
        return next((r for r in self.rules if reference and reference in (r.id, r.name)), None)


def load(places: Iterable[Path]) -> Loaded:
    """Return the rules in the files and folders, in the order of their paths."""
    rules: list[Rule] = []
    problems: list[Problem] = []
    read: dict[str, Path] = {}
    for file, found in files.rules(places):
        for each in [found] if isinstance(found, str) else _documents(file, explicit=found):
            if isinstance(each, str):
                problems.append(Problem(file=file, reason=each))
            elif each.id in read:
                reason = f"{each.title}: the id {each.id} is already used in {read[each.id]}"
                problems.append(Problem(file=file, reason=reason))
            else:
                read[each.id] = file
                rules.append(each)
    return _linked(Loaded(rules=tuple(rules), problems=tuple(problems)))


def read_yaml(file: Path) -> list[Any]:
    """Return the documents of a YAML file. Raises ValueError with the reason."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
        documents = _loaded(file.read_text(encoding="utf-8"))
        for document in documents:
            check_alias_expansion(document, SigmaError, None)
    except OSError as error:
        raise ValueError(error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"not valid YAML: {line}{error.problem}") from None
    except (yaml.YAMLError, SigmaError, TypeError) as error:
        raise ValueError(f"not valid YAML: {_line(error)}") from None
    return documents


def _loaded(text: str) -> list[Any]:
    """Return the documents of a text, by the loader in C, which nesting without end would crash."""
    if text.count("[") + text.count("{") > _MOST_BRACKETS or _DEEP.search(text):
        raise ValueError("nested too deeply")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return list(yaml.load_all(text, Loader=loader))


def _documents(file: Path, *, explicit: bool) -> Iterator[Rule | str]:
    try:
        documents = read_yaml(file)
    except ValueError as error:
        yield str(error)
        return
    for document in documents:
        if isinstance(document, dict) and document.keys() & _KEYS:
            yield rule_of(document, file)
        elif explicit and document is not None:
            yield "not a Sigma rule"


def rule_of(document: dict[str, Any], file: Path) -> Rule | str:
    """Return one rule, or why it is none."""
    title = str(document.get("title") or file.name)
    if "action" in document:
        return f"{title}: collections with `action` are deprecated: write each rule out"
    if "filter" in document:
        return f"{title}: Sigma filters are not supported: use exceptions in the overlay"
    kind = SigmaCorrelationRule if "correlation" in document else SigmaRule
    if kind is SigmaRule and not isinstance(document.get("logsource"), dict):
        return f"{title}: give it a log source, such as `product: okta`"
    try:
        parsed = kind.from_dict(document, collect_errors=True)
        made = _described(document, file, parsed)
    except Exception as error:  # pySigma raises many kinds for odd documents
        return f"{title}: not a valid Sigma rule: {_line(error)}"
    return made if made.id else f"{title}: give it an id, such as `uuidgen` prints"


def _described(
    document: dict[str, Any], file: Path, parsed: SigmaRule | SigmaCorrelationRule
) -> Rule:
    source = document.get("logsource")
    source = source if isinstance(source, dict) else {}
    logic = {
        "logsource": {key: source.get(key) for key in ("product", "service", "category")},
        "detection": document.get("detection"),
        "correlation": document.get("correlation"),
    }
    return Rule(
        id=str(parsed.id or ""),
        name=str(parsed.name or ""),
        title=str(parsed.title or file.stem),
        description=str(parsed.description or ""),
        author=str(parsed.author or ""),
        references=tuple(map(str, parsed.references or ())),
        license=str(document.get("license") or ""),
        status=parsed.status.name.lower() if parsed.status else "",
        level=parsed.level.name.lower() if parsed.level else "",
        tags=tuple(map(str, parsed.tags or ())),
        false_positives=tuple(map(str, parsed.falsepositives or ())),
        product=str(source.get("product") or ""),
        service=str(source.get("service") or ""),
        category=str(source.get("category") or ""),
        file=file,
        logic_hash=_digest(logic),
        parsed=parsed,
        faults=tuple(dict.fromkeys(map(_line, parsed.errors))),
    )


def _linked(loaded: Loaded) -> Loaded:
    """Return the rules with the logic of those they refer to in the hash of each correlation."""

    def hashed(rule: Rule, above: Sequence[str]) -> str:
        if not rule.correlates or rule.id in above:
            return rule.logic_hash
        others = [loaded.named(reference) for reference in rule.correlates]
        below = [hashed(other, (*above, rule.id)) if other else "" for other in others]
        return _digest([rule.logic_hash, below])

    rules = (replace(rule, logic_hash=hashed(rule, ())) for rule in loaded.rules)
    return replace(loaded, rules=tuple(rules))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(below) for key, below in value.items()}
        case list():
            return [_plain(below) for below in value]
        case str() | int() | float() | bool() | None:
            return value
    return str(value)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
