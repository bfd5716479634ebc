"""The commands that run the receiver, and register, inspect and remove webhooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from pipelines import registry
from pipelines.cli import options, status
from pipelines.cli.options import as_json, configured, names
from pipelines.clock import utc_now
from pipelines.errors import AuditlakeError
from pipelines.lake import tables
from pipelines.lake.tables import Lake
from pipelines.sdk.contract import Source
from pipelines.sdk.push import Push
from pipelines.settings import Settings
from pipelines.webhooks import subscriptions
from pipelines.webhooks.spool import configured_spool
from pipelines.webhooks.subscriptions import Registration


@click.command(name="receive")
@names
@click.option("--host", default=None, help="Default: webhooks.host, or 127.0.0.1.")
@click.option("--port", default=None, type=int, help="Default: webhooks.port, or 8600.")
@options.log_format
@click.pass_context
def receive(
    context: click.Context, names: tuple[str, ...], host: str | None, port: int | None
) -> None:
    """Receive webhooks and store their events within seconds.

    Ctrl-C stops it; deliveries that were accepted are never lost.
    """
    from pipelines.webhooks import server  # noqa: PLC0415 slow to import, for one command

    chosen, lake = configured(context)
    tables.require_safe_store(lake)
    # model_copy does not validate: an invalid address fails when the server binds to it.
    given = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    listen = chosen.webhooks.model_copy(update=given)
    chosen = chosen.model_copy(update={"webhooks": listen})
    server.serve(chosen, lake, registry.sources(chosen, names), options.announcer(context))


@click.group(name="webhooks")
def webhooks_() -> None:
    """Register, inspect and remove vendor webhooks."""


@webhooks_.command()
@click.argument("name", metavar="INTEGRATION", shell_complete=options.integrations)
@click.pass_context
def register(context: click.Context, name: str) -> None:
    """Register the webhook of INTEGRATION, or print the steps to do so in the vendor's console.

    `auditlake receive` must be running.
    """
    chosen, source, root = _source(context, name)
    at = subscriptions.endpoint(chosen, source)
    steps = subscriptions.steps(source, at)
    if steps:
        # Printed, never logged: they contain the secret.
        options.echo(f"{source.integration.title} has no API to register webhooks. In its console:")
        for number, step in enumerate(steps, start=1):
            options.echo(f"  {number}. {step}")
        return
    _print(name, subscriptions.register(source, at, root, utc_now()))


@webhooks_.command(name="status")
@names
@as_json
@click.pass_context
def status_(context: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show each vendor's subscriptions and the deliveries still in the spool."""
    chosen, lake = configured(context)
    spool = configured_spool(chosen, lake)
    found = []
    for source in registry.sources(chosen, names):
        push = source.integration.push
        if push is None or source.settings.webhook_secret is None:
            continue
        try:
            registration = _current(chosen, source, push, spool.root)
        except AuditlakeError as error:
            registration = _unknown(source, spool.root, str(error))
        waiting, odd = len(spool.waiting(source.name)), spool.unreadable(source.name)
        found.append((source.name, registration, waiting, odd))
    if as_json:
        lines = [
            {
                "integration": n,
                "waiting": w,
                "odd": o,
                "subscriptions": _as_dicts(r),
                "fault": r.fault if r else None,
            }
            for n, r, w, o in found
        ]
        options.echo_json(json.dumps(lines, default=str, indent=2))
    else:
        for name, registration, waiting, odd in found:
            _print(name, registration)
            if waiting or odd:
                options.echo(f"  deliveries: {waiting:,} pending, {odd:,} unreadable")
    if any(registration and registration.fault for _, registration, _, _ in found):
        context.exit(1)


@webhooks_.command()
@click.argument("name", metavar="INTEGRATION", shell_complete=options.integrations)
@click.pass_context
def remove(context: click.Context, name: str) -> None:
    """Remove the webhook that `register` created."""
    chosen, source, root = _source(context, name)
    at = subscriptions.endpoint(chosen, source)
    if source.integration.push and source.integration.push.subscription_api is None:
        options.echo(f"remove the webhook in {source.integration.title}'s console: {at.address}")
        return
    subscriptions.remove(source, at, root)
    options.echo(f"{name}: webhook removed; polling continues")


def _current(chosen: Settings, source: Source, push: Push, root: Path) -> Registration | None:
    """Return the subscriptions as the vendor's API reports them, else as last saved."""
    if push.subscription_api is None or chosen.webhooks.public_url is None:
        return subscriptions.load(root, source.name)
    at = subscriptions.endpoint(chosen, source)
    return subscriptions.refresh(source, at, root, utc_now())


def _unknown(source: Source, root: Path, fault: str) -> Registration:
    """Return the subscriptions as last saved, with the reason why they cannot be looked up."""
    saved = subscriptions.load(root, source.name)
    known = saved or Registration(address="", known=[], looked_at=utc_now())
    return msgspec.structs.replace(known, fault=fault)


def status_lines(chosen: Settings, lake: Lake) -> Iterator[str]:
    """Yield lines about saved subscriptions and pending deliveries, without any request."""
    spool = configured_spool(chosen, lake)
    for source in registry.sources(chosen, secrets=False):
        if registration := subscriptions.load(spool.root, source.name):
            yield from _lines(source.name, registration)
        waiting, odd = len(spool.waiting(source.name)), spool.unreadable(source.name)
        if waiting or odd:
            yield f"{source.name} deliveries: {waiting:,} pending, {odd:,} unreadable"


def _print(name: str, registration: Registration | None) -> None:
    if registration is None or not (registration.known or registration.fault):
        options.echo(f"{name}: no webhook registered through the API")
        return
    for line in _lines(name, registration):
        options.echo(line)


def _lines(name: str, registration: Registration) -> Iterator[str]:
    for each in registration.known:
        left = each.expires and each.expires - utc_now()
        ends = f", expires in {status.length(left)}, renewed before that" if left else ""
        state = "active" if each.active else f"INACTIVE ({each.note})"
        yield f"{name} {each.stream}: webhook {state}{ends}"
    if registration.fault:
        yield f"{name}: the last look or renewal failed: {registration.fault}"


def _as_dicts(registration: Registration | None) -> list[dict[str, object]]:
    return [asdict(each) for each in registration.known] if registration else []


def _source(context: click.Context, name: str) -> tuple[Settings, Source, Path]:
    """Return the settings, one integration and the folder of its registration."""
    chosen, lake = configured(context)
    (source,) = registry.sources(chosen, (name,))
    return chosen, source, configured_spool(chosen, lake).root
