"""The records kept next to a rule, which it has to match or must not match.

Next to `name.yml`, the file `name.tests.yml` is a list of `{record, stream, matches}`. For a
correlation, an example has `records`: a list of `{record, stream}`, each with a `time` of its own
if the record's does not matter. Of a rule over events, records are mapped first. `placeholders`
holds a list of values for each placeholder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from pipelines import registry
from pipelines.detections import correlations, match
from pipelines.detections.aliases import EVENTS_STREAM, log_source
from pipelines.detections.compiler import Compiled, Placeholders, Refused, compile_rule
from pipelines.detections.correlations import compile_correlation
from pipelines.detections.files import TESTS
from pipelines.detections.rules import Loaded, Rule, read_yaml
from pipelines.errors import ConfigurationError
from pipelines.mapping import normalise
from pipelines.schemas import EVENTS, Timestamp
from pipelines.search.people import PERSON

_NOW = datetime(2100, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Records that come one after another, and whether the rule has to match them."""

    records: tuple[Mapping[str, Any], ...]
    """Each has `stream` and `record`, and may have a `time`."""
    matches: bool
    placeholders: Placeholders


def file_of(rule: Path) -> Path | None:
    """Return the file of examples next to a rule's file, if there is one."""
    found = (rule.with_name(rule.stem + ending) for ending in TESTS)
    return next((file for file in found if file.is_file()), None)


def has_streams(rule: Rule, loaded: Loaded) -> bool:
    """Return whether streams carry the logs that a rule or the parts of a correlation read."""
    found = (loaded.named(reference) for reference in rule.correlates)
    parts = [part for part in found if part] if rule.is_correlation else [rule]
    sources = (log_source(part.product, part.service, part.category) for part in parts)
    return not any(isinstance(source, str) for source in sources)


def read(file: Path) -> list[Example]:
    """Return the examples in a file. Raises ValueError with the reason."""
    listed = [each for document in read_yaml(file) for each in document or ()]
    return [_example(each, number) for number, each in enumerate(listed, 1)]


def _example(given: Any, number: int) -> Example:
    match given:
        case {"matches": bool(matches), "records": [_, *_] as several}:
            pass
        case {"matches": bool(matches), "record": _}:
            several = [given]
        case _:
            raise ValueError(f"example {number}: give `record` or `records`, and `matches: true`")
    found = tuple(_with_stream(each, given.get("stream"), number) for each in several)
    return Example(records=found, matches=matches, placeholders=_placeholders(given, number))


def _placeholders(given: Mapping[str, Any], number: int) -> Placeholders:
    match given.get("placeholders", {}):
        case dict() as found if all(isinstance(values, list) for values in found.values()):
            return {str(name): [str(value) for value in found[name]] for name in found}
    raise ValueError(f"example {number}: give lists of values as `placeholders`")


def _with_stream(given: Any, stream: Any, number: int) -> Mapping[str, Any]:
    found = {"stream": stream, **given} if isinstance(given, dict) else {}
    match found:
        case {"record": dict(), "stream": str()}:
            return found
    raise ValueError(f"example {number}: give each record and its stream, such as okta/system_log")


def failures(examples: Sequence[Example], rule: Rule, loaded: Loaded) -> Iterator[str]:
    """Yield a line per example that the rule decides otherwise. `loaded`: its parts, if any."""
    for number, example in enumerate(examples, 1):
        try:
            matched = _matched(example, rule, loaded)
        except (ValueError, ConfigurationError) as error:
            yield f"example {number}: {error}"
            continue
        if matched and not example.matches:
            yield f"example {number} matches, but must not"
        elif example.matches and not matched:
            yield f"example {number} does not match"


def _matched(example: Example, rule: Rule, loaded: Loaded) -> bool:
    found = (loaded.named(reference) for reference in rule.correlates)
    chosen = [part for part in found if part] if rule.is_correlation else [rule]
    made = {part.id: compile_rule(part, example.placeholders) for part in chosen}
    correlation = compile_correlation(rule, loaded, made) if rule.is_correlation else None
    if isinstance(correlation, Refused):
        raise ValueError(f"refused: {correlation.reason}")  # noqa: TRY004 one kind for examples
    wanted = correlation.wanted if correlation else {}
    parts = [_running(part) for part in made.values()]
    hits = [_hits(parts, each, number, wanted) for number, each in enumerate(example.records)]
    if correlation:
        return correlations.findings(correlation, pl.concat(hits, how="diagonal")).height > 0
    return any(one.height for one in hits)


def _running(rule: Compiled | Refused) -> Compiled:
    if isinstance(rule, Refused):
        raise ValueError(f"refused: {rule.reason}")  # noqa: TRY004
    return rule


def _hits(
    rules: Sequence[Compiled], given: Mapping[str, Any], number: int, wanted: match.Wanted
) -> pl.DataFrame:
    """Return the hits in one record, with an `event` of its own."""
    stream = given["stream"]
    raw, mapped = _rows(stream, given["record"], given.get("time"))
    over = [one for one in rules if match.over_events(one)]
    others = [one for one in rules if stream in one.source.streams]
    if not over and not others and len(rules) == 1:
        raise ValueError(f"the rule is not about the stream {stream}")
    found = match.events(over, mapped.with_columns(pl.col("actor_email").alias(PERSON)), wanted)
    beside = [name for name in mapped.columns if name not in raw.columns]
    rows = raw.hstack(mapped.head(1).select(*beside, pl.col("actor_email").alias(PERSON)))
    of_raw = match.records(others, rows, wanted)
    if failed := {**found.errors, **of_raw.errors}:
        raise ValueError("; ".join(failed.values()))
    hits = pl.concat([found.hits, of_raw.hits], how="diagonal")
    return hits.with_columns(pl.lit(f"{number:06}").alias("event"))


def _rows(stream: str, record: Any, time: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a record as a row of raw, and the events it is mapped to."""
    if stream == EVENTS_STREAM:
        mapped = _events([record], _time(time))
        return mapped.select(
            "event_id", "time", "seq", pl.lit(None, pl.String).alias("raw")
        ), mapped
    kind, _, name = stream.partition("/")
    integration = registry.kind(kind)
    chosen = {each.name: each for each in integration.streams(None)}.get(name)
    if chosen is None:
        raise ValueError(f"there is no stream {stream}")
    bytes_ = json.dumps(record, default=str, ensure_ascii=False).encode()
    row = normalise.read(chosen, [bytes_], _NOW, "poll", fallback=_NOW)
    if time is not None:
        row = row.with_columns(pl.lit(_time(time), Timestamp).alias("time"))
    raw = row.with_columns(pl.lit(0, pl.Int64).alias("seq"))
    mapped = normalise.normalise(kind, integration, chosen, raw).events
    return raw.select("event_id", "time", "seq", "raw"), mapped


def _events(records: Sequence[Mapping[str, Any]], time: datetime) -> pl.DataFrame:
    rows = [{"time": time, **{k: v for k, v in r.items() if k in EVENTS}} for r in records]
    return pl.DataFrame(rows, EVENTS, strict=False)


def _time(given: Any) -> datetime:
    if given is None:
        return _NOW
    found = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
