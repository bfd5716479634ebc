"""The commands that check, list and test detection rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pipelines import settings
from pipelines.cli.detect import backtest_
from pipelines.cli.guide import FAILED
from pipelines.cli.options import echo, print_table
from pipelines.detections import attack, examples, rules, ruleset
from pipelines.detections.rules import Loaded, Rule
from pipelines.detections.ruleset import Ruleset
from pipelines.errors import ConfigurationError

places = click.argument("places", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))


@click.group(name="rules")
def rules_() -> None:
    """Check, list and test the detection rules: files in the Sigma format.

    Without PATH, the rules are those in [detections] of the configuration.
    """


rules_.add_command(backtest_)


@rules_.command(name="check")
@places
@click.pass_context
def check_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print whether each rule runs, or why it does not. Exits with 1 if a rule is not valid."""
    loaded, made = _read(context, places)
    print_table(("", "rule", ""), [_verdict(rule, made) for rule in loaded.rules])
    _print_problems(loaded)
    errors = len(loaded.problems) + sum(one.invalid for one in made.refused.values())
    running = len(made.rules) + len(made.correlations)
    refused = len(made.refused) + len(loaded.problems) - errors
    echo(f"{running} rules run, {refused} are refused, {errors} are not valid")
    if errors:
        context.exit(FAILED)


@rules_.command(name="list")
@places
@click.pass_context
def list_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print the rules that run, with the streams they read."""
    loaded, made = _read(context, places)
    rows = [
        (rule.id, rule.level, rule.title, ", ".join(made.streams(rule.id)))
        for rule in loaded.rules
        if rule.id not in made.refused
    ]
    print_table(("id", "level", "title", "streams"), rows)
    if loaded.problems:
        _print_problems(loaded)
        context.exit(FAILED)


@rules_.command(name="coverage")
@places
@click.pass_context
def coverage_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print, in Markdown, how many rules that run cover each ATT&CK technique, and the gaps."""
    loaded, made = _read(context, places)
    silent = made.silent | made.refused.keys()
    found = attack.coverage(rule for rule in loaded.rules if rule.id not in silent)
    for line in attack.markdown(found).splitlines():
        echo(line)
    _print_problems(loaded)


@rules_.command(name="test")
@places
@click.pass_context
def test_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Evaluate each rule on its examples: those of NAME.yml are in NAME.tests.yml.

    Exits with 1 if a rule matches an example that it must not match, or the other way round. Rules
    about a log that no stream carries are counted as refused.
    """
    loaded, _ = _read(context, places)
    failures = [f"{problem.file}: {problem.reason}" for problem in loaded.problems]
    tested = refused = 0
    for rule in _described(loaded):
        if not (file := examples.file_of(rule.file)):
            continue
        if examples.has_streams(rule, loaded):
            found = list(_failures(rule, file, loaded))
            failures += [f"{rule.file}: {rule.title}: {line}" for line in found]
            tested += 1
        else:
            refused += 1
    for line in failures:
        echo(f"error: {line}", err=True)
    echo(f"{tested} rules with examples, {refused} refused, {len(failures)} errors")
    if failures:
        context.exit(FAILED)


def _read(context: click.Context, places: tuple[Path, ...]) -> tuple[Loaded, Ruleset]:
    chosen = places or settings.load(context.obj).detections.rules
    loaded = rules.load(chosen)
    if not loaded.rules and not loaded.problems:
        raise ConfigurationError(f"no rules in {', '.join(map(str, chosen))}: name other folders")
    return loaded, ruleset.compiled(loaded)


def _print_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        echo(f"error: {problem.file}: {problem.reason}", err=True)


def _verdict(rule: Rule, made: Ruleset) -> tuple[str, str, str]:
    refused = made.refused.get(rule.id)
    if refused is None:
        return "runs", rule.title, ", ".join(made.streams(rule.id))
    return "error" if refused.invalid else "refused", rule.title, refused.reason


def _described(loaded: Loaded) -> Iterator[Rule]:
    """Yield the rules that the examples of a file are about: its correlations, if it has any."""
    correlated = {rule.file for rule in loaded.rules if rule.is_correlation}
    yield from (r for r in loaded.rules if r.is_correlation or r.file not in correlated)


def _failures(rule: Rule, file: Path, loaded: Loaded) -> Iterator[str]:
    try:
        yield from examples.failures(examples.read(file), rule, loaded)
    except ValueError as error:
        yield f"{file.name}: {error}"
