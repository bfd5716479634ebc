"""The commands that map records and export events."""

import json

from tests.cli.command import auditlake


def test_normalise_needs_neither_lake_nor_configuration(tmp_path):
    lines = b'{"uuid":"1","published":"2026-01-01T00:00:00.5Z","eventType":"x"}\n\n{}\nnot json\n'
    done = auditlake(tmp_path, "normalise", "okta", "system_log", stdin=lines)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["seq"], row["action"]) for row in rows] == [(0, "x"), (2, None), (3, None)]
    assert rows[0]["time"].startswith("2026-01-01T00:00:00.5")
    assert list(tmp_path.iterdir()) == []
