"""The help of the command line: commands in groups, and examples for each."""

from __future__ import annotations

import click

SECTIONS = {
    "Start": ("up", "sandbox", "doctor", "completion"),
    "Collect": ("poll", "backfill", "replay", "receive", "webhooks", "status", "coverage"),
    "Search and export": ("search", "export", "columns"),
    "Prove": ("verify", "prove", "verify-proof", "evidence", "certify", "keys", "witness"),
    "Maintain": ("maintain", "retain", "erase", "retire", "renormalise", "normalise"),
}
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
    "verify": (
        "auditlake verify",
        "auditlake verify --full --key auditlake+1a2b3c4d+... --table raw/okta/system_log",
    ),
    "prove": ("auditlake prove raw/okta/system_log/17 --out proof.json",),
    "verify-proof": ("auditlake verify-proof proof.json --key auditlake+1a2b3c4d+...",),
    "evidence": ("auditlake evidence --search 'actor:ada*' --since 2026-03-01 --out evidence.zip",),
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
    "renormalise": ("auditlake renormalise okta",),
    "normalise": ("auditlake normalise okta system_log < records.ndjson",),
}


class SectionedGroup(click.Group):
    """A group whose help lists its commands by purpose."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        examples = EXAMPLES.get(name or cmd.name or "", ())
        if examples:
            # Click keeps the lines of a paragraph that begins with a backspace.
            cmd.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)
        super().add_command(cmd, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            rows = [(name, command.get_short_help_str(60)) for name, command in commands]
            with formatter.section(section):
                formatter.write_dl(rows)
