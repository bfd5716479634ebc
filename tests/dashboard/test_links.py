"""Nothing in a link is dropped without a word."""

from __future__ import annotations

import pytest

from dashboard import links, state
from dashboard.state import View


@pytest.mark.parametrize(
    ("params", "form", "pointer"),
    [
        ({"f": ["time:x"]}, "use field:value", "time:x\n^"),
        ({"f": ["-acter:ada"]}, "use actor:value", "-acter:ada\n ^"),
        ({"range": ["7x"]}, "use 7d, 90m or ", "range=7x\n      ^"),
        ({"held": ["yesterday"]}, "use a time such as ", "held=yesterday\n     ^"),
        ({"q": ["a", "b"]}, "use one search per link", "q=b\n  ^"),
        ({"ip": ["203.0.113.67"]}, "use f=ip:value", "ip=203.0.113.67\n^"),
    ],
)
def test_a_parameter_that_selects_events_is_understood_or_a_fault(
    params: dict[str, list[str]], form: str, pointer: str
) -> None:
    view = state.from_params(params)
    (fault,) = links.faults(view)
    assert form in fault.reason
    assert fault.pointer == pointer
    assert not links.remarks(view)


@pytest.mark.parametrize("key", ["by", "tab", "page", "tz", "ev", "utm_source"])
def test_any_other_parameter_is_named_above_the_result(key: str) -> None:
    view = state.from_params({key: ["0/x"]})
    assert not links.faults(view)
    (remark,) = links.remarks(view)
    assert remark.startswith(f"{key}=0/x in this link is not understood. ")


def test_a_view_without_unread_parameters_has_no_faults() -> None:
    assert not links.faults(View(text="a OR b"))
    assert not links.remarks(View(text="a OR b"))
