"""All rules and correlations together, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.detections.compiler import Compiled, Placeholders, Refused, compile_rule
from pipelines.detections.correlations import Correlation, compile_correlation
from pipelines.detections.rules import Loaded, Rule


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ruleset:
    """Rules by id, in the order of their files; the same only if it is the same object."""

    rules: Mapping[str, Compiled]
    correlations: Mapping[str, Correlation]
    refused: Mapping[str, Refused]
    silent: frozenset[str]
    """Rules that only serve a correlation: their hits are no findings of their own."""
    placeholders: Placeholders = field(default_factory=dict)
    """The values that the rules were compiled with."""
    overlay: Mapping[str, Any] = field(default_factory=dict)
    """The rest of the overlay that decides about findings, as JSON could hold it."""

    def streams(self, rule: str) -> tuple[str, ...]:
        """Return the streams that a rule, or the parts of a correlation, read."""
        if rule in self.rules:
            return self.rules[rule].source.streams
        parts = self.correlations[rule].parts
        return tuple(dict.fromkeys(s for part in parts for s in self.rules[part].source.streams))

    def all(self) -> dict[str, Compiled | Correlation]:
        """Return rules and correlations by id."""
        return {**self.rules, **self.correlations}

    def of_stream(self, stream: str) -> list[Compiled]:
        """Return the rules that read a stream, such as "okta/system_log", or "events"."""
        return [rule for rule in self.rules.values() if stream in rule.source.streams]


def compiled(
    loaded: Loaded,
    placeholders: Placeholders | None = None,
    *,
    own: Mapping[str, Placeholders] | None = None,
    disabled: Mapping[str, str] | None = None,
) -> Ruleset:
    """Return the rules that run, and those that are refused with the reason.

    `own` holds placeholders by rule, which replace the others; `disabled` why a rule must not run.
    """
    off, of_rule = disabled or {}, own or {}

    def made_of(rule: Rule) -> Compiled | Refused:
        if rule.id in off:
            return Refused(rule=rule, reason=off[rule.id])
        return compile_rule(rule, of_rule.get(rule.id, placeholders))

    def joined_of(rule: Rule) -> Correlation | Refused:
        if rule.id in off:
            return Refused(rule=rule, reason=off[rule.id])
        return compile_correlation(rule, loaded, made)

    made = {rule.id: made_of(rule) for rule in loaded.rules if not rule.is_correlation}
    joined = {rule.id: joined_of(rule) for rule in loaded.rules if rule.is_correlation}
    running = {id_: one for id_, one in joined.items() if isinstance(one, Correlation)}
    serving = {p for one in running.values() if not one.generates for p in one.parts}
    shown = {p for one in running.values() if one.generates for p in one.parts}
    return Ruleset(
        rules={id_: one for id_, one in made.items() if isinstance(one, Compiled)},
        correlations=running,
        refused={id_: one for id_, one in (made | joined).items() if isinstance(one, Refused)},
        silent=frozenset(serving - shown),
        placeholders=placeholders or {},
    )
