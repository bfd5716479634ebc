"""A view and its URL are equivalent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode

from hypothesis import given
from hypothesis import strategies as st

from dashboard import fields, listing, ready, state, times
from dashboard.listing import Order
from dashboard.queries import Filter
from dashboard.state import Opened, View
from dashboard.times import Last

texts = st.text(st.characters(exclude_categories=["Cs"]))
uids = texts.filter(bool)
filters = st.builds(Filter, field=st.sampled_from(fields.NAMES), value=texts, negated=st.booleans())
moments = st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ranges = st.builds(Last, count=st.integers(1, 9999), unit=st.sampled_from("mhd")) | st.builds(
    lambda since, seconds: times.between(since, since + timedelta(seconds=seconds)),
    moments,
    st.integers(1, 10**8),
)
views = st.builds(
    View,
    range=ranges,
    text=texts,
    filters=st.lists(filters, max_size=4).map(tuple),
    off=st.lists(texts.filter(bool), max_size=2).map(tuple),
    off_filters=st.lists(filters, max_size=2).map(tuple),
    by=st.sampled_from(fields.NAMES),
    sort=st.builds(Order, field=st.sampled_from(listing.COLUMNS), descending=st.booleans()),
    columns=st.lists(st.sampled_from(listing.COLUMNS), unique=True, max_size=6).map(tuple),
    tab=st.sampled_from(list(state.TABS)),
    page=st.integers(1, 999_999),
    held=st.none() | moments,
    ready=st.sampled_from(["", *ready.SEARCHES]),
    zone=st.sampled_from(["", "UTC", "Europe/London", "Asia/Kolkata"]),
    opened=st.none() | st.builds(Opened, date=st.dates(), uid=uids),
)


@given(views)
def test_a_url_restores_the_same_view(view: View) -> None:
    query = urlencode(state.params(view), doseq=True)
    assert state.from_params(parse_qs(query, keep_blank_values=True)) == view


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "range",
                "q",
                "f",
                "by",
                "tab",
                "sort",
                "cols",
                "page",
                "held",
                "tz",
                "ev",
                "off",
                "foff",
                "ip",
            ]
        ),
        st.lists(texts | st.sampled_from(["7d", "1d", "1", "2", "outcome", "out", "UTC"])),
    )
)
def test_no_url_breaks_the_page(params: dict[str, list[str]]) -> None:
    view = state.from_params(params)
    view.query(datetime(2026, 11, 23, tzinfo=UTC))
    assert state.from_params(state.params(view)) == view


def test_the_default_view_has_no_parameters() -> None:
    assert state.params(View()) == {}


def test_a_filter_replaces_its_opposite() -> None:
    wanted = Filter(field="actor", value="ada")
    excluded = Filter(field="actor", value="ada", negated=True)
    assert View().adding(wanted).adding(excluded).filters == (excluded,)


def test_a_filter_of_a_link_may_use_a_short_form_and_others_stay_unread() -> None:
    view = state.from_params({"f": ["-ip:203.0.113.67", "time:x", "acter:ada", "okta"]})
    assert view.filters == (Filter(field="source_ip", value="203.0.113.67", negated=True),)
    assert view.unread == (("f", "time:x"), ("f", "acter:ada"), ("f", "okta"))


def test_a_change_drops_only_the_unread_parameter_that_it_replaces() -> None:
    view = state.from_params({"range": ["7x"], "page": ["0"], "by": ["colour"]})
    assert view.unread == (("by", "colour"), ("page", "0"), ("range", "7x"))
    assert view.changing(page=1, range=Last(count=1, unit="d")).unread == (("by", "colour"),)
    assert view.changing(text="okta").unread == view.unread
    odd = state.from_params({"f": ["acter:ada"], "off": [""]})
    assert odd.changing(filters=(), off=("x",)).unread == odd.unread


def test_choosing_values_keeps_those_of_the_other_sense() -> None:
    excluded = Filter(field="actor", value="ada", negated=True)
    view = View(filters=(excluded,)).choosing("actor", ["grace"], negated=False)
    assert view.chosen("actor", negated=False) == ["grace"]
    assert view.chosen("actor", negated=True) == ["ada"]


def test_an_order_is_no_part_of_the_search_that_is_recorded() -> None:
    view = View(text="ada", sort=Order(field="actor"), columns=("time",), page=3)
    assert state.search(view) == "q=ada"
    odd = state.from_params({"sort": ["-raw"], "cols": ["time,time"]})
    assert odd == View(unread=(("cols", "time,time"), ("sort", "-raw")))
