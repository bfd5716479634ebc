"""The example of a configuration, and the TOML of a generated one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipelines.cli.options import echo


def document(
    integrations: Mapping[str, Mapping[str, Any]],
    root: str = "data",
    public_url: str | None = None,
    integrity: str | None = None,
) -> str:
    """Return the text of an auditlake.toml with these integrations.

    `public_url` is the address that vendors send webhooks to; `integrity` is the folder of the
    signing keys, by default the user's own.
    """
    parts = [f"[lake]\nroot = {_value(root)}\n"]
    if integrity:
        parts.append(f"[integrity]\nfolder = {_value(integrity)}\n")
    if public_url:
        parts.append(f"[webhooks]\npublic_url = {_value(public_url)}\n")
    for name, keys in integrations.items():
        lines = [f"{key} = {_value(value)}" for key, value in keys.items()]
        parts.append("\n".join([f"[integrations.{name}]", *lines, ""]))
    return "\n".join(parts)


def _value(value: Any) -> str:
    """Return a value as TOML: JSON syntax is valid, except that objects become inline tables."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
    # TOML forbids a bare DEL in strings, which JSON allows.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@click.command()
def example() -> None:
    """Print a configuration in which every setting is explained, to begin with."""
    text = Path(__file__).with_name("auditlake.example.toml").read_text(encoding="utf-8")
    for line in text.splitlines():
        echo(line)
