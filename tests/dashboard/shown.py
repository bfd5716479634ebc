"""Reads the page of an app that runs without a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deltalake import DeltaTable
from streamlit.testing.v1 import AppTest

App = Callable[[Path], AppTest]


def shown_text(app: AppTest) -> str:
    texts = [*app.caption, *app.markdown, *app.text, *app.get("html")]
    return "\n".join(str(getattr(text, "value", None) or text.proto.body) for text in texts)


def address(app: AppTest) -> dict[str, list[str]]:
    return {key: one if isinstance(one, list) else [one] for key, one in app.query_params.items()}


def chips(app: AppTest) -> list[str]:
    buttons = [button for button in app.button if (button.key or "").startswith("chip_")]
    return [button.label.removeprefix("Remove ") for button in buttons]


def newest_event(root: Path) -> tuple[str, str]:
    """Return the date and the uid of the newest event."""
    table = DeltaTable(root / "events").to_pyarrow_table(columns=["date", "time", "event_uid"])
    row = max(table.to_pylist(), key=lambda row: row["time"])
    return str(row["date"]), row["event_uid"]
