"""The commands that send alerts, try receivers, and list or resend undelivered ones."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pipelines.cli import options, status
from pipelines.cli.guide import FAILED
from pipelines.cli.options import echo, print_table
from pipelines.clock import utc_now
from pipelines.detections.alerts import deliver, passes, resend
from pipelines.errors import ConfigurationError
from pipelines.settings import Settings

_ID = 12
"""Characters of an id that are shown."""


@click.group(name="alerts")
def alerts_() -> None:
    """Send alerts to the receivers in [alerts], try receivers, list and resend undelivered ones."""


@alerts_.command(name="send")
@click.pass_context
def send_(context: click.Context) -> None:
    """Queue alerts about new findings and about auditlake itself, and deliver those that are due.

    Run it every minute where Dagster does not run. Exits with 1 if a step failed.
    """
    chosen, lake = options.configured(context)
    _require_receivers(chosen)
    done = passes.pass_once(chosen, lake, utc_now())
    for one in done.sent:
        echo(f"{one.message.receiver}: {one.state}: {one.headline} ({one.row['receipt']})")
    echo(f"{done.queued + done.problems} queued, {len(done.sent)} tried")
    if done.heartbeat:
        echo(f"heartbeat: {done.heartbeat}")
    for error in done.errors:
        echo(f"error: {error}", err=True)
    if done.errors:
        context.exit(FAILED)


@alerts_.command(name="test")
@click.argument("names", nargs=-1, metavar="[RECEIVER]...")
@click.pass_context
def test_(context: click.Context, names: tuple[str, ...]) -> None:
    """Send a test alert to each receiver now, and print its answer.

    Exits with 1 if one did not accept it.
    """
    chosen, _ = options.configured(context)
    _require_receivers(chosen)
    if unknown := sorted(set(names) - chosen.alerts.receivers.keys()):
        known = ", ".join(chosen.alerts.receivers)
        raise ConfigurationError(f"no receiver is named {unknown[0]!r}: use one of {known}")
    found = deliver.test(chosen, names, utc_now())
    verdicts = {"sent": "accepted", "unknown": "no answer"}
    rows = [
        (name, chosen.alerts.receivers[name].kind, verdicts.get(one.result, "failed"), one.receipt)
        for name, one in found.items()
    ]
    print_table(("receiver", "kind", "", "answer"), rows)
    if any(one.result != "sent" for one in found.values()):
        context.exit(FAILED)


@alerts_.command(name="list")
@options.as_json
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """List the alerts that wait, are retried, or could not be delivered (dead)."""
    _, lake = options.configured(context)
    now = utc_now()
    found = passes.unsent(lake, now)
    if as_json:
        lines = [asdict(each) for each in found]
        options.echo_json(json.dumps(lines, default=options.json_value))
        return
    if not found:
        echo("all alerts of the last 14 days were delivered")
        return
    rows = [
        (
            each.delivery[:_ID],
            each.receiver,
            each.about,
            each.state,
            f"{each.attempt}",
            status.age(each.due_at, now) if each.due_at <= now else "not yet",
            each.receipt or "",
        )
        for each in found
    ]
    print_table(("id", "receiver", "about", "state", "tries", "due", "last answer"), rows)


@alerts_.command(name="resend")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "every", is_flag=True, help="All that could not be delivered.")
@click.pass_context
def resend_(context: click.Context, ids: tuple[str, ...], every: bool) -> None:
    """Queue alerts again that could not be delivered: those that `alerts list` shows as dead.

    They keep their keys, so that a receiver that has one already does not show it again.
    """
    chosen, lake = options.configured(context)
    if bool(ids) == every:
        raise click.UsageError("give either ids, or --all")
    now = utc_now()
    dead = resend.dead(lake, now)
    wanted = dead if every else resend.chosen(dead, ids)
    for each in wanted:
        if each.receiver not in chosen.alerts.receivers:
            echo(f"{each.delivery[:_ID]}: {each.receiver} is no longer configured", err=True)
    queued = resend.resend(lake, chosen.alerts, wanted, now)
    for each in queued:
        echo(f"{each.delivery[:_ID]}: to {each.receiver}, was dead: {each.receipt or 'no answer'}")
    sent = ": the next pass sends them, or `auditlake alerts send` now" if queued else ""
    echo(f"{len(queued)} queued again{sent}")


def _require_receivers(chosen: Settings) -> None:
    if not chosen.alerts.receivers:
        raise ConfigurationError("alerts.receivers: none is configured: see docs/alerts.md")
