"""Deceptive characters are marked wherever people read, and nothing else is changed."""

from __future__ import annotations

import json
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import visible

HIDDEN = "\x00\x08\x1b\x7f\x85\xad\u034f\u061c\u200b\u200d\u202e\u2066\u2800\u3164\ufe0f\ufeff"
TAGS = "\U000e0041\U000e007f\ufff9\U0001d173"
CYRILLIC = "\u0430\u0435\u043e\u0440\u0441"
deceptive = st.text(st.sampled_from(f"{HIDDEN}{TAGS}{CYRILLIC}\xa0\n\r\t admin@.x1_\u044f\xb2é"))
texts = st.text(max_size=40) | deceptive


def is_hidden(char: str) -> bool:
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or char in HIDDEN


@given(texts)
def test_no_hidden_character_is_left_and_marking_twice_changes_nothing(text: str) -> None:
    shown = visible.text(text)
    assert [char for char in shown if is_hidden(char)] == []
    assert visible.text(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("admin", "admin"),
        ("ad\u200bmin", "ad[U+200B]min"),
        ("x\x1b[31m\u202ey", "x[U+001B][31m[U+202E]y"),
        ("id-1\nok raw/okta", "id-1[U+000A]ok raw/okta"),
        ("\u0430dmin", "[U+0430]dmin"),
        ("\u0430\u200bdmin", "[U+0430][U+200B]dmin"),
        ("r\u03bfot", "r[U+03BF]ot"),
        ("\u0441\u0435\u043e@corp.example", "[U+0441][U+0435][U+043E]@corp.example"),
        ("\U0001d41admin", "[U+1D41A]dmin"),
        ("Ada\xa0L.", "Ada[U+00A0]L."),
        ("admin\U000e0041", "admin[U+E0041]"),
        ("\u2764\ufe0f", "\u2764[U+FE0F]"),
        ("\ud800", "[U+D800]"),
    ],
)
def test_what_deceives_is_marked_with_its_code_point(text: str, shown: str) -> None:
    assert visible.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Łukasz Żółć",
        "李雷",
        "山田\u3000太郎",
        "\u0421\u0430\u0440\u0430 Smith",
        "\u041c\u041e\u0421\u041a\u0412\u0410-IT",
        "\u0418\u0432\u0430\u043d\u043e\u0432\u0430.Ann",
        "\u0395\u03bb\u03bb\u03ac\u03b4\u03b1",
        "naïve café µTorrent 10²",
        "שלום",
        "🚀",
    ],
)
def test_names_of_all_scripts_stay_as_they_are(text: str) -> None:
    assert visible.text(text) == text


def test_line_ends_can_be_kept() -> None:
    assert visible.text("a\nb\u202e", keep="\n") == "a\nb[U+202E]"


@given(st.lists(texts.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))))
def test_a_column_is_marked_as_each_of_its_texts(values: list[str]) -> None:
    rows = pl.DataFrame({"text": values, "list": [[value] for value in values], "n": 1})
    shown = visible.frame(rows.cast({"text": pl.String, "list": pl.List(pl.String)}))
    expected = [visible.text(value) for value in values]
    assert shown["text"].to_list() == expected
    assert shown["list"].to_list() == [[value] for value in expected]


@given(st.lists(texts.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))))
def test_json_keeps_its_value_and_hides_nothing(values: list[str]) -> None:
    lines = "\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    shown = visible.json_text(lines)
    assert [json.loads(line) for line in shown.split("\n") if line] == values
    assert [char for char in shown if is_hidden(char) and char != "\n"] == []


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ad\u200bmin", "admin"),
        ("\u0430dm\u202ein\x00", "admin"),
        ("\U0001d41admin\xa0x", "admin x"),
        ("access\nkey", "access key"),
        ("admin", None),
        ("\u0421\u0430\u0440\u0430 Smith", None),
        ("Zoë", None),
        (None, None),
    ],
)
def test_a_disguised_text_is_read_as_it_looks(text: str | None, seen: str | None) -> None:
    rows = pl.DataFrame({"text": [text, "other"]}, schema={"text": pl.String})
    assert rows.select(visible.as_seen(pl.col("text")))["text"].to_list() == [seen, None]


def test_lists_of_structs_are_read_too() -> None:
    rows = pl.DataFrame({"targets": [[{"name": "ad\u200bmin"}], [{"name": "x"}], [], None]})
    name = visible.as_seen(pl.element().struct.field("name"))
    found = rows.select(pl.col("targets").list.eval(name).list.first())["targets"].to_list()
    assert found == ["admin", None, None, None]
