"""The help of the command line: commands in groups, examples for each, and exit codes.

A command is imported when it is used, so that the help appears at once.
"""

from __future__ import annotations

import importlib

import click

FAILED, CONFIGURATION, NOT_COMPARED = 1, 2, 3
LEAVE = "auditlake.leave"
"""The key in `Context.meta` of what ends the program in place of `Context.exit`."""
EXIT_CODES = (
    "Exit codes: 0 success; 1 something failed, everything else was done; 2 invalid configuration, "
    "nothing was done; 3 `verify` found nothing wrong but could not compare every row."
)
SECTIONS = {
    "Start": {
        "up": ("up:up_", "Run extraction, Dagster and the dashboard."),
        "example": ("config_file:example", "Print a configuration that explains every setting."),
        "doctor": ("doctor:doctor_", "Check the lake, witnesses, credentials and streams."),
        "dashboard": ("dashboard:dashboard_", "Run the dashboard alone."),
        "sandbox": ("sandbox:sandbox_", "Simulate the vendors' APIs, to try auditlake."),
        "completion": (
            "completion:completion_",
            "Print the script that completes commands.",
        ),
    },
    "Collect": {
        "poll": ("poll:poll_", "Fetch everything new once."),
        "backfill": ("poll:backfill_", "Re-fetch a time range alongside live polling."),
        "replay": ("poll:replay_", "Retry rejected records after a fix."),
        "receive": ("webhooks:receive", "Receive webhooks and store their events within seconds."),
        "webhooks": ("webhooks:webhooks_", "Register, inspect and remove vendor webhooks."),
        "status": ("streams:status_", "Show each stream's state, delay and next poll."),
        "coverage": ("streams:coverage_", "Show which time ranges are complete, missing or lost."),
        "metrics": ("metrics_server:metrics_", "Print metrics once, or serve them to Prometheus."),
    },
    "Search and export": {
        "search": ("search:search_", "Print the events that match a query, newest first."),
        "export": ("events:export_", "Export matching events as CSV, NDJSON, Parquet or OCSF."),
        "columns": ("events:columns_", "Print the meaning of each column of `events`."),
    },
    "Detect": {
        "detect": ("detect:detect_", "Evaluate the rules on all rows they have not seen yet."),
        "findings": ("detect:findings_", "Print the findings of the rules."),
        "rules": ("rules:rules_", "Check, list, test and backtest detection rules."),
        "alerts": (
            "alerts:alerts_",
            "Send alerts, try receivers, resend undelivered ones.",
        ),
    },
    "Prove": {
        "verify": ("integrity:verify_", "Check every row against the signed log."),
        "prove": ("integrity:prove_", "Write a proof that an event is recorded."),
        "verify-proof": ("integrity:verify_proof", "Check a proof or an evidence pack."),
        "evidence": (
            "integrity:evidence_",
            "Write a zip that proves a query's result.",
        ),
        "entries": ("integrity:entries_", "Write a table's log with all entries, for other tools."),
        "certify": ("integrity:certify_", "Write a signed certificate of the coverage of a span."),
        "keys": ("integrity:keys_", "Print, rotate and create signing keys."),
        "witness": ("witness:witness_", "Cosign the checkpoints of logs that only grow."),
    },
    "Maintain": {
        "maintain": ("maintain:maintain_", "Compact files, trim Delta logs and delete orphans."),
        "retain": ("maintain:retain", "Permanently delete the days of a table before a date."),
        "erase": ("erase:erase_", "Permanently erase the records of a person."),
        "retire": ("integrity:retire_", "Record and sign that streams are no longer polled."),
        "renormalise": ("events:renormalise_", "Derive `events` from raw again, after an upgrade."),
        "normalise": ("events:normalise_", "Map raw records from standard input to events."),
        "backup": ("backup:backup_", "Copy a lake consistently while polling continues."),
        "restore": ("backup:restore_", "Restore a backup, as a signed act."),
    },
}
"""Per section and command: where it is defined, in this package, and a summary."""
EXAMPLES = {
    "up": ("auditlake up", "auditlake --config auditlake.toml up"),
    "sandbox": ("auditlake sandbox --days 30 --settings > auditlake.toml", "auditlake sandbox"),
    "doctor": ("auditlake doctor",),
    "completion": ('eval "$(auditlake completion bash)"',),
    "poll": ("auditlake poll", "auditlake poll okta entra_id --json"),
    "backfill": ("auditlake backfill okta --since 2026-03-01 --until 2026-03-08",),
    "replay": ("auditlake replay", "auditlake replay okta"),
    "receive": ("auditlake receive okta --port 8600",),
    "webhooks": ("auditlake webhooks register okta", "auditlake webhooks status"),
    "status": ("auditlake status",),
    "coverage": ("auditlake coverage okta",),
    "search": (
        "auditlake search 'actor:ada* outcome:failure' --since 2026-03-01",
        "auditlake search 'ip:203.0.113.0/24' --json --limit 1000",
        "auditlake search 'action_type:\"MFA Factor Disable\"' --follow",
    ),
    "export": (
        "auditlake export --format csv --since 2026-03-01 --out march.csv",
        "auditlake export --format ocsf --search 'integration:okta -outcome:success'",
    ),
    "columns": ("auditlake columns",),
    "detect": ("auditlake detect", "auditlake detect okta entra_id --json"),
    "findings": ("auditlake findings --level high --since 2026-03-01",),
    "rules": (
        "auditlake rules check",
        "auditlake rules test rules/okta",
        "auditlake rules backtest impossible_travel --since 2026-03-01",
    ),
    "alerts": (
        "auditlake alerts test",
        "auditlake alerts send",
        "auditlake alerts list",
        "auditlake alerts resend --all",
    ),
    "verify": (
        "auditlake verify",
        "auditlake verify --full --key auditlake+1a2b3c4d+... --table raw/okta/system_log",
    ),
    "prove": ("auditlake prove raw/okta/system_log/17 --out proof.json",),
    "verify-proof": ("auditlake verify-proof proof.json --key auditlake+1a2b3c4d+...",),
    "evidence": ("auditlake evidence --search 'actor:ada*' --since 2026-03-01 --out evidence.zip",),
    "entries": ("auditlake entries raw/okta/system_log --out okta-log",),
    "certify": ("auditlake certify okta --since 2026-03-01 --out coverage.txt",),
    "keys": ("auditlake keys", "auditlake keys rotate"),
    "witness": (
        "auditlake witness --key witness.key --state seen --name witness.example.com/w1 "
        "--log audit.example.com+1a2b3c4d+...",
    ),
    "maintain": ("auditlake maintain",),
    "retain": (
        "auditlake retain --dry-run",
        "auditlake retain raw/okta/system_log --before 2025-01-01 --why 'retention of one year'",
    ),
    "erase": (
        "auditlake erase --person ada@example.com --dry-run",
        "auditlake erase --person ada@example.com --why 'request 2026-17, GDPR Art. 17'",
        "auditlake erase --integration okta --event 7f3c... --why 'request 2026-18'",
    ),
    "retire": ("auditlake retire okta --why 'replaced by Entra ID in March'",),
    "renormalise": (
        "auditlake renormalise okta",
        "auditlake renormalise --engine ray://head.example.com:10001",
    ),
    "normalise": ("auditlake normalise okta system_log < records.ndjson",),
    "metrics": (
        "auditlake metrics",
        "auditlake metrics --serve",
    ),
    "example": ("auditlake example > auditlake.toml",),
    "dashboard": ("auditlake --config /etc/auditlake/auditlake.toml dashboard",),
    "backup": ("auditlake backup /mnt/backups/auditlake",),
    "restore": (
        "auditlake restore /mnt/backups/auditlake --dry-run",
        "auditlake restore /mnt/backups/auditlake --why 'incident 2026-7: a disk failed'",
    ),
}


_COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class SectionedGroup(click.Group):
    """A group whose help lists its commands by purpose."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(
            importlib.import_module(f"pipelines.cli.{module}"), attribute
        )
        # Click keeps the lines of a paragraph that begins with a backspace.
        lines = (f"  {line}" for line in EXAMPLES[cmd_name])
        command.epilog = "\b\nExamples:\n" + "\n".join(lines)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, summary) for name, (_, summary) in commands.items()])
