"""The columns of the table: their order, wording and length."""

from __future__ import annotations

import polars as pl
import pytest

from dashboard import table

COLUMNS = ("title", "actor")


def row(title: str | None, email: str | None = None, name: str | None = None) -> pl.DataFrame:
    texts = {"title": title, "actor": email or name, "actor_email": email, "actor_name": name}
    return pl.DataFrame(
        [texts | {"actor_id": None}], schema=dict.fromkeys([*texts, "actor_id"], pl.String)
    )


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("ada@acme.example opened a file", "Opened a file"),
        ("Ada Lovelace opened a file", "Opened a file"),
        ("ada@acme.example", "ada@acme.example"),
        ("ada@acme.examples opened a file", "ada@acme.examples opened a file"),
        ("User signed in", "User signed in"),
        ("Ada Lovelace \u00e9tait ici", "\u00c9tait ici"),
        (None, None),
    ],
)
def test_the_event_does_not_repeat_the_actor_next_to_it(
    title: str | None, expected: str | None
) -> None:
    rows = row(title, "ada@acme.example", "Ada Lovelace")
    assert table.presented(rows, COLUMNS)["title"].item() == expected
    assert table.presented(rows, ("title",))["title"].item() == title


def test_an_unknown_actor_changes_no_event() -> None:
    assert table.presented(row(" signed in"), COLUMNS)["title"].item() == " signed in"
    assert table.presented(row("x signed in", ""), COLUMNS)["title"].item() == "x signed in"


def test_only_long_texts_end_with_an_ellipsis() -> None:
    long = "a" * 39
    assert table.presented(row("a" * 38), COLUMNS)["title"].item() == "a" * 38
    assert table.presented(row(long), COLUMNS)["title"].item() == "a" * 37 + "…"
    assert (
        table.presented(row("a" * 36 + " " + "b" * 20), COLUMNS)["title"].item() == "a" * 36 + "…"
    )


def test_columns_are_moved_within_the_table() -> None:
    assert table.moved("abc", "b", -1) == ("b", "a", "c")
    assert table.moved("abc", "b", 1) == ("a", "c", "b")
    assert table.moved("abc", "a", -1) == ("a", "b", "c")
    assert table.moved("abc", "c", 1) == ("a", "b", "c")


def test_the_actor_is_read_for_the_event_next_to_it() -> None:
    assert table.fetched(("time", "title")) == ("time", "title")
    assert table.fetched(COLUMNS) == ("title", "actor", "actor_email", "actor_name", "actor_id")


def test_texts_that_were_shortened_are_known_whole() -> None:
    long = "ada@acme.example opened " + "a" * 39
    rows = pl.concat([row("short"), row(long, "a" * 50), row("ends with…")])
    shown = table.presented(rows, COLUMNS)
    assert table.whole(rows, shown) == {1: f"{long}\n{'a' * 50}"}


def test_the_table_has_its_columns_alone_and_marks_what_deceives() -> None:
    hidden = "ada\u202e" + "a" * 50
    rows = pl.concat([row("short", "ada@acme.example"), row("plain", hidden)])
    shown = table.shown(rows, COLUMNS)
    assert shown.rows.columns == [*COLUMNS]
    assert shown.rows["actor"][0] == "ada@acme.example"
    assert "[U+202E]" in shown.rows["actor"][1]
    assert list(shown.whole) == [1]
