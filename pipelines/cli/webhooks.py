"""`auditlake receive` and `auditlake webhooks`: pushes taken in, and vendors told to push."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from pipelines import registry, settings
from pipelines.cli import status
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.settings import Settings
from pipelines.webhooks import server, subscriptions
from pipelines.webhooks.subscriptions import Enrolled


@click.command(name="receive")
@click.argument("names", nargs=-1, metavar="[INTEGRATION]...")
@click.option("--host", default=None, help="Default: webhooks.host, which is 127.0.0.1.")
@click.option("--port", default=None, type=int, help="Default: webhooks.port, which is 8600.")
@click.pass_context
def receive(
    context: click.Context, names: tuple[str, ...], host: str | None, port: int | None
) -> None:
    """Take in what vendors push, within seconds. Ctrl-C stops it; nothing taken in is lost."""
    chosen, lake = _configured(context.obj)
    given = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    listen = chosen.webhooks.model_copy(update=given)
    chosen = chosen.model_copy(update={"webhooks": listen})
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    server.serve(chosen, lake, registry.sources(chosen, names), click.echo)


@click.group(name="webhooks")
def webhooks_() -> None:
    """Make vendors push, see whether they do, and end it."""


@webhooks_.command()
@click.argument("name", metavar="INTEGRATION")
@click.pass_context
def register(context: click.Context, name: str) -> None:
    """Make the vendor push to `auditlake receive`, which has to run; or print how a person does."""
    chosen, source, root = _one(context.obj, name)
    at = subscriptions.endpoint(chosen, source)
    steps = subscriptions.steps(source, at)
    if steps:
        click.echo(f"{source.integration.title} has no API for this. In its console:")
        for number, step in enumerate(steps, start=1):
            click.echo(f"  {number}. {step}")
        return
    enrolled = subscriptions.register(source, at, root, datetime.now(UTC))
    _show(name, enrolled)


@webhooks_.command(name="status")
@click.argument("names", nargs=-1, metavar="[INTEGRATION]...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.pass_context
def status_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """What each vendor has for us, and what waits to be brought in."""
    chosen, lake = _configured(context.obj)
    spool = server.open_spool(chosen, lake)
    found = []
    for source in registry.sources(chosen, names):
        if source.integration.push is None or source.settings.webhook_secret is None:
            continue
        enrolled = _looked_at(chosen, source, spool.root)
        waiting, odd = len(spool.waiting(source.name)), spool.odd(source.name)
        found.append((source.name, enrolled, waiting, odd))
    if as_json:
        lines = [
            {"integration": n, "waiting": w, "odd": o, "subscriptions": _plain(e)}
            for n, e, w, o in found
        ]
        click.echo(json.dumps(lines, default=str, indent=2))
        return
    for name, enrolled, waiting, odd in found:
        _show(name, enrolled)
        if waiting or odd:
            click.echo(f"  {waiting:,} deliveries wait, {odd:,} could not be read")


@webhooks_.command()
@click.argument("name", metavar="INTEGRATION")
@click.pass_context
def remove(context: click.Context, name: str) -> None:
    """End what `register` made."""
    chosen, source, root = _one(context.obj, name)
    at = subscriptions.endpoint(chosen, source)
    if source.integration.push and source.integration.push.enrolment is None:
        click.echo(f"remove it in {source.integration.title}'s console: {at.address}")
        return
    subscriptions.remove(source, at, root)
    click.echo(f"{name}: nothing is pushed any more; polling goes on")


def _looked_at(chosen: Settings, source: Source, root: Path) -> Enrolled | None:
    """By the vendor's own word where there is an API."""
    assert source.integration.push  # noqa: S101 the caller looked
    if source.integration.push.enrolment is None or chosen.webhooks.public_url is None:
        return subscriptions.recall(root, source.name)
    at = subscriptions.endpoint(chosen, source)
    return subscriptions.look(source, at, root, datetime.now(UTC))


def remembered(chosen: Settings, lake: Lake) -> Iterator[str]:
    """What this machine knows of subscriptions and of what waits; no vendor is asked."""
    spool = server.open_spool(chosen, lake)
    for source in registry.sources(chosen):
        if enrolled := subscriptions.recall(spool.root, source.name):
            yield from _lines(source.name, enrolled)
        waiting, odd = len(spool.waiting(source.name)), spool.odd(source.name)
        if waiting or odd:
            yield f"{source.name}: {waiting:,} deliveries wait, {odd:,} could not be read"


def _show(name: str, enrolled: Enrolled | None) -> None:
    if enrolled is None or not enrolled.known:
        click.echo(f"{name}: nothing is registered by an API")
        return
    for line in _lines(name, enrolled):
        click.echo(line)


def _lines(name: str, enrolled: Enrolled) -> Iterator[str]:
    for each in enrolled.known:
        left = each.expires and each.expires - datetime.now(UTC)
        ends = f", ends in {status.length(left)}, renewed before" if left else ""
        state = "active" if each.active else f"NOT ACTIVE ({each.note})"
        yield f"{name} {each.stream}: pushed, {state}{ends}"
    if enrolled.fault:
        yield f"{name}: the last renewal failed: {enrolled.fault}"


def _plain(enrolled: Enrolled | None) -> list[dict[str, object]]:
    return [asdict(each) for each in enrolled.known] if enrolled else []


def _configured(config: Path) -> tuple[Settings, Lake]:
    chosen = settings.load(config)
    return chosen, tables.configured(chosen)


def _one(config: Path, name: str) -> tuple[Settings, Source, Path]:
    chosen, lake = _configured(config)
    (source,) = registry.sources(chosen, (name,))
    return chosen, source, server.open_spool(chosen, lake).root
