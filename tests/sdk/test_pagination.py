"""Pages that lead nowhere are an error, and never the end of a query."""

import pytest

from pipelines.errors import Unavailable
from pipelines.sdk.pagination import Trail


def test_any_number_of_different_pages_is_followed():
    trail = Trail("okta")
    for number in range(5000):
        trail.follow(f"after={number}", [b"%d" % number])


def test_an_empty_page_is_followed_like_any_other():
    trail = Trail("okta")
    for number in range(900):
        trail.follow(f"after={number}", [])
    trail.follow("after=1000", [b"1"])
    for number in range(1001, 1900):
        trail.follow(f"after={number}", [])


@pytest.mark.parametrize("cycle", [1, 2, 7])
def test_links_that_lead_back_are_an_error(cycle):
    trail = Trail("okta")
    with pytest.raises(Unavailable, match="okta does not come to an end: a page links back"):
        for number in range(10):
            trail.follow(f"after={number % cycle}", [b"%d" % number])


def test_a_page_that_comes_again_and_again_is_an_error_whatever_its_link():
    trail = Trail("okta")
    trail.follow("1", [b"a", b"b"])
    trail.follow("2", [b"ab"])
    trail.follow("3", [b"ab"])
    with pytest.raises(Unavailable, match="the same page comes again"):
        trail.follow("4", [b"ab"])


def test_endless_empty_pages_are_an_error():
    trail = Trail("okta")
    with pytest.raises(Unavailable, match="1,000 empty pages"):
        for number in range(1001):
            trail.follow(str(number), [])
