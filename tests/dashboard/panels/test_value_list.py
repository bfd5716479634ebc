"""The list in a menu of filters."""

from dashboard.panels import value_list


def test_a_row_shows_deceptive_characters_and_keeps_the_value() -> None:
    assert value_list._row("okta", 3) == [3, "okta"]
    assert value_list._row("", 2) == [2, "(none)", ""]
    events, shown, value = value_list._row("ad\u200bmin", 1)
    assert (events, value) == (1, "ad\u200bmin")
    assert "\u200b" not in str(shown)
