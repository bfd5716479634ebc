"""The commands that check, list and test detection rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from pipelines import settings
from pipelines.cli.backtest import backtest_
from pipelines.cli.guide import FAILED
from pipelines.cli.options import echo, print_table
from pipelines.clock import utc_now
from pipelines.detections import attack, examples, overlay
from pipelines.detections.overlay import Rulebook
from pipelines.detections.rules import Loaded, Rule
from pipelines.errors import ConfigurationError
from pipelines.settings.detections import DetectionSettings

places = click.argument("places", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))


@click.group(name="rules")
def rules_() -> None:
    """Check, list and test the detection rules: files in the Sigma format.

    Without PATH, the rules are those in [detections] of the configuration. Its overlay disables
    some and changes the level of others.
    """


rules_.add_command(backtest_)


@rules_.command(name="check")
@places
@click.pass_context
def check_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print whether each rule runs, or why it does not, and the exceptions that have expired.

    Exits with 1 if a rule is not valid.
    """
    book = _read(context, places)
    print_table(("", "rule", ""), [_verdict(rule, book) for rule in book.loaded.rules])
    _print_lists(book)
    _print_expired(book)
    _print_problems(book.loaded)
    made = book.ruleset
    errors = len(book.loaded.problems) + sum(one.invalid for one in made.refused.values())
    running = len(made.rules) + len(made.correlations)
    off = len(made.refused.keys() & book.disabled)
    refused = len(made.refused) - off - sum(one.invalid for one in made.refused.values())
    disabled = f", {off} are disabled" if off else ""
    echo(f"{running} rules run{disabled}, {refused} are refused, {errors} are not valid")
    if errors:
        context.exit(FAILED)


@rules_.command(name="list")
@places
@click.pass_context
def list_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print the rules that run, with the streams they read."""
    book = _read(context, places)
    rows = [
        (rule.id, rule.level, rule.title, ", ".join(book.ruleset.streams(rule.id)))
        for rule in book.loaded.rules
        if rule.id not in book.ruleset.refused
    ]
    print_table(("id", "level", "title", "streams"), rows)
    if book.loaded.problems:
        _print_problems(book.loaded)
        context.exit(FAILED)


@rules_.command(name="coverage")
@places
@click.pass_context
def coverage_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Print, in Markdown, how many rules that run cover each ATT&CK technique, and the gaps."""
    book = _read(context, places)
    silent = book.ruleset.silent | book.ruleset.refused.keys()
    found = attack.coverage(rule for rule in book.loaded.rules if rule.id not in silent)
    for line in attack.markdown(found).splitlines():
        echo(line)
    _print_problems(book.loaded)


@rules_.command(name="test")
@places
@click.pass_context
def test_(context: click.Context, places: tuple[Path, ...]) -> None:
    """Evaluate each rule on its examples: those of NAME.yml are in NAME.tests.yml.

    Exits with 1 if a rule matches an example that it must not match, or the other way round. Rules
    about a log that no stream carries are counted as refused.
    """
    loaded = _read(context, places).loaded
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


def _read(context: click.Context, places: tuple[Path, ...]) -> Rulebook:
    # Files that are named can be checked without a configuration.
    configured = not places or Path(context.obj).exists()
    chosen = settings.load(context.obj).detections if configured else DetectionSettings()
    book = overlay.read(chosen, utc_now(), places)
    if not book.loaded.rules and not book.loaded.problems:
        named = ", ".join(map(str, places or chosen.rules))
        raise ConfigurationError(f"no rules in {named}: name other folders")
    return book


def _print_lists(book: Rulebook) -> None:
    for each in book.lists:
        newest = f", the newest of {each.newest}" if each.newest else ""
        expired = f", {each.expired:,} expired" if each.expired else ""
        echo(f"%{each.name}%: {len(each.values):,} values{newest}{expired}")


def _print_expired(book: Rulebook) -> None:
    titles = {rule.id: rule.title for rule in book.loaded.rules}
    for each in book.expired(utc_now()):
        rule = titles.get(each.rule_id, each.rule_id)
        line = f"expired on {each.expires:%Y-%m-%d}: exception of {each.owner} from {rule}"
        echo(f"warning: {line}: {each.text}", err=True)


def _print_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        echo(f"error: {problem.file}: {problem.reason}", err=True)


def _verdict(rule: Rule, book: Rulebook) -> tuple[str, str, str]:
    refused = book.ruleset.refused.get(rule.id)
    if refused is None:
        return "runs", rule.title, ", ".join(book.ruleset.streams(rule.id))
    if rule.id in book.disabled:
        return "disabled", rule.title, refused.reason
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
