"""The file rules.toml, which changes rules without editing them, and the rules it results in.

It enables and disables rules, changes their level, gives placeholders their values, and lists
exceptions and the most findings a day that are expected of a rule.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipelines import settings
from pipelines.detections import exceptions, files, rules, ruleset, watch_lists
from pipelines.detections.compiler import Placeholders
from pipelines.detections.exceptions import RuleException
from pipelines.detections.rules import Loaded, Problem, Rule
from pipelines.detections.ruleset import Ruleset
from pipelines.detections.watch_lists import WatchList
from pipelines.errors import ConfigurationError
from pipelines.settings.detections import DetectionSettings, PlaceholderName
from pipelines.settings.fields import Section, reason


def _texts(value: Any) -> Any:
    match value:
        case list():
            return tuple(str(each) if isinstance(each, int | float) else each for each in value)
        case int() | float():
            return (str(value),)
        case str():
            return (value,)
    return value


def _moment(value: Any) -> Any:
    match value:
        case datetime():
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        case date():
            return datetime.combine(value, time(), UTC)
    raise ValueError("give a day such as 2027-05-01, without quotation marks")


def _checked(fields: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    exceptions.check_fields(fields)
    return fields


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Values = dict[PlaceholderName, Texts]
_Text = Annotated[str, Field(min_length=1)]


class _Excepted(Section):
    fields: Annotated[dict[str, Annotated[Texts, Field(min_length=1)]], AfterValidator(_checked)]
    owner: _Text
    reason: _Text
    expires: Annotated[datetime, BeforeValidator(_moment)]


class _Tuning(Section):
    """The changes to one rule."""

    enabled: bool = True
    level: Literal["informational", "low", "medium", "high", "critical"] | None = None
    placeholders: Values = Field(default_factory=dict)
    exceptions: tuple[_Excepted, ...] = ()
    max_per_day: int | None = Field(default=None, ge=1)


class _Overlay(Section):
    placeholders: Values = Field(default_factory=dict)
    rules: dict[str, _Tuning] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """The rules as they are used: with the overlay, watch lists and exceptions."""

    loaded: Loaded
    """All rules, with their changed levels, and everything in the files that cannot be used."""
    ruleset: Ruleset
    """The rules that run; its `overlay` has all that decides about findings."""
    disabled: frozenset[str] = frozenset()
    exceptions: tuple[RuleException, ...] = ()
    """Those of the file; the dashboard records others in the lake."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """Rule id -> the most findings a day that are expected of it."""
    lists: tuple[WatchList, ...] = ()

    def expired(self, now: datetime) -> list[RuleException]:
        """Return the exceptions that no longer apply."""
        return [each for each in self.exceptions if each.expires <= now]


def read(
    chosen: DetectionSettings, now: datetime, places: Sequence[Path] | None = None
) -> Rulebook:
    """Return the rules in the configured or the given places, as the overlay changes them.

    Raises ConfigurationError if the overlay is not valid. Rules and lists that cannot be used are
    problems of the rulebook.
    """
    loaded = rules.load(places or files.places(chosen.rules))
    lists = watch_lists.read(chosen.watch_lists, now)
    return _tuned(loaded, _file(chosen), lists, chosen.overlay)


def budgets(chosen: DetectionSettings, now: datetime) -> Mapping[str, int]:
    """Return the most findings a day that are expected of rules, by id.

    Reads the rules only if the overlay has such numbers. Raises ConfigurationError.
    """
    if not any(each.max_per_day for each in _file(chosen).rules.values()):
        return {}
    return read(chosen, now).budgets


def _file(chosen: DetectionSettings) -> _Overlay:
    path = chosen.overlay
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if "overlay" in chosen.model_fields_set:
            raise ConfigurationError(f"detections.overlay: {path}: not found") from None
        return _Overlay()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {reason(error)}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    return settings.validated(_Overlay, document, str(path))


def _tuned(loaded: Loaded, chosen: _Overlay, lists: Sequence[WatchList], file: Path) -> Rulebook:
    """Return the rules with the changes of an overlay, which was read from `file`."""
    changes: dict[str, _Tuning] = {}
    problems = [problem for each in lists for problem in each.problems]
    for reference, change in chosen.rules.items():
        rule = loaded.named(reference)
        if rule is None or rule.id in changes:
            why = "no rule has this id or name" if rule is None else "its rule is listed twice"
            problems.append(Problem(file=file, reason=f"rules.{reference}: {why}"))
        else:
            changes[rule.id] = change
    ours = replace(
        loaded,
        rules=tuple(_leveled(rule, changes.get(rule.id)) for rule in loaded.rules),
        problems=(*loaded.problems, *problems),
    )
    placeholders = _placeholders(chosen, lists)
    off = {id_: f"disabled in {file.name}" for id_, one in changes.items() if not one.enabled}
    own = {id_: {**placeholders, **one.placeholders} for id_, one in changes.items()}
    made = ruleset.compiled(ours, placeholders, own=own, disabled=off)
    return Rulebook(
        loaded=ours,
        ruleset=replace(made, overlay=_values(changes)),
        disabled=frozenset(off),
        exceptions=tuple(_exceptions(changes)),
        budgets={id_: one.max_per_day for id_, one in changes.items() if one.max_per_day},
        lists=tuple(lists),
    )


def _leveled(rule: Rule, change: _Tuning | None) -> Rule:
    return replace(rule, level=change.level) if change and change.level else rule


def _placeholders(chosen: _Overlay, lists: Sequence[WatchList]) -> Placeholders:
    found: dict[str, tuple[str, ...]] = dict(chosen.placeholders)
    for each in lists:
        found[each.name] = tuple(dict.fromkeys((*found.get(each.name, ()), *each.values)))
    return found


def _exceptions(changes: Mapping[str, _Tuning]) -> Iterator[RuleException]:
    """Yield the exceptions, of equal ones that which expires last."""
    found: dict[str, RuleException] = {}
    for rule_id, change in changes.items():
        for each in change.exceptions:
            id_ = exceptions.digest(rule_id, each.fields)
            if id_ not in found or found[id_].expires < each.expires:
                found[id_] = RuleException(
                    id=id_,
                    rule_id=rule_id,
                    fields=tuple(sorted(each.fields.items())),
                    owner=each.owner,
                    reason=each.reason,
                    expires=each.expires,
                )
    yield from found.values()


def _values(changes: Mapping[str, _Tuning]) -> dict[str, Any]:
    """Return the changes of rules and exceptions."""
    excepted = sorted(_exceptions(changes), key=lambda each: each.id)
    of_rules = {
        id_: {"placeholders": {name: sorted(one.placeholders[name]) for name in one.placeholders}}
        for id_, one in sorted(changes.items())
        if one.placeholders
    }
    of_findings = [
        {
            "id": each.id,
            "rule_id": each.rule_id,
            "fields": {name: list(values) for name, values in each.fields},
            "expires": each.expires.isoformat(),
        }
        for each in excepted
    ]
    found = {"rules": of_rules, "exceptions": of_findings}
    return {name: value for name, value in found.items() if value}
