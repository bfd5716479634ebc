"""Texts for people: one line each, and nothing an attacker wrote can deceive or be clicked."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.detections.alerts import message, wording
from tests.detections.alerts.world import NOW, finding


@given(st.text(), st.integers(10, 400))
def test_any_text_is_plain_and_short_enough(text, most):
    shown = wording.plain(text, most)
    assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in shown)
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200b\xad")
    assert "://" not in shown
    assert len(shown) <= most


def test_the_headline_names_level_rule_and_entity():
    alert = message.opened(finding())
    assert wording.headline(alert) == "[HIGH] Administrator role granted: ada@example.com"
    more = message.joined(alert, finding("b"), 2)
    assert wording.headline(more).endswith("ada@example.com (2 findings)")
    gone = message.withdrawn(alert, finding()["finding_uid"], 0)
    assert wording.headline(gone).startswith("[RESOLVED]")
    assert "Withdrawn" in next(wording.lines(gone))


def test_the_lines_contain_the_event_the_fields_and_the_rule():
    text = "\n".join(wording.lines(message.opened(finding(count=3))))
    assert "2026-03-02 11:59:00 UTC: Ada granted Bob a role" in text
    assert "(okta/system_log, from 192.0.2.7, 3 events)" in text
    assert "Matched: eventType = user.account.privilege.grant" in text
    assert "by A. Writer (DRL-1.1)" in text
    assert "Tags: attack.t1098" in text


def test_a_digest_counts_by_rule():
    alert = message.digest([finding(str(n)) for n in range(1500)], "older events")
    assert wording.headline(alert) == "Digest: 1,500 findings: older events"
    assert "1,500 x [HIGH] Administrator role granted" in "\n".join(wording.lines(alert))


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://e.com/<b>", "https://e.com/a b", "ftp://e.com", ""]
)
def test_only_a_plain_address_of_a_rule_stays_one(url):
    alert = message.opened(finding(url=url))
    assert wording.rule_url(alert) is None
    assert "://" not in "\n".join(wording.lines(alert))


def test_a_link_leads_to_the_finding_only_by_a_proper_uid():
    alert = message.opened(finding())
    assert wording.link_of(alert, "https://a.example.com").endswith(finding()["finding_uid"])
    odd = message.opened(finding(finding_uid="x&y=<script>"))
    assert wording.link_of(odd, "https://a.example.com") == "https://a.example.com/findings"
    assert wording.link_of(alert, None) is None


def test_a_problem_has_its_text_and_since_when():
    alert = message.Alert(about="health", level="high", title="x", text="401: no.", since=NOW)
    assert list(wording.lines(alert)) == ["401: no.", "Since: 2026-03-02 12:00:00 UTC"]
