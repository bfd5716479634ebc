"""The rule of a finding: its level, texts, author, licence, link and techniques.

Rules may be others' work under the Detection Rule License, which asks to name the author and the
source wherever a match is shown.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

import streamlit as st

from dashboard import escaping, rule_files, session
from dashboard.panels import backtest
from pipelines import visible
from pipelines.detections import attack
from pipelines.detections.rules import Rule

_BADGES: dict[str | None, Literal["red", "orange", "yellow", "blue"]] = {
    "critical": "red",
    "high": "orange",
    "medium": "yellow",
    "low": "blue",
}
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")
_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_MOST_FILE = 20_000


def level(name: str | None) -> None:
    """Show the level as a badge, by its word and its colour."""
    text = (name or "no level").capitalize()
    st.badge(escaping.markdown(text), color=_BADGES.get(name, "gray"), width="content")


def link(uid: str, name: str | None, title: str | None) -> None:
    """Show a link to a finding."""
    label = f"{escaping.markdown(title or 'Finding')} ({escaping.markdown(name or '')})"
    session.link("findings", label, ":material/flag:", {"id": [uid]})


def show(finding: dict[str, Any]) -> None:
    """Show the rule as the finding names it, with the texts of its file if that is configured."""
    rule = rule_files.rule(finding["rule_id"])
    st.markdown("#### Rule")
    if rule and rule.description:
        st.text(visible.text(rule.description, keep="\n"))
    with st.container(key="rule_facts", gap=None):
        _fact("Author", finding["author"] or "not named")
        _fact("Licence", finding["license"] or "not named")
        _fact("ID", finding["rule_id"])
        _fact("Rule set", (finding["ruleset"] or "")[:16])
        if rule and rule.false_positives:
            _fact("False positives", "; ".join(rule.false_positives))
    _source(finding["url"])
    _techniques(finding["tags"] or [])
    _text(finding, rule)
    if rule:
        backtest.offer(rule)


def _fact(label: str, text: str) -> None:
    with st.container(horizontal=True, vertical_alignment="top", gap=None):
        st.caption(label, width=104)
        st.text(visible.text(text, keep="\n"), width="stretch")


def _source(url: str | None) -> None:
    if not url:
        _fact("Link", "not named")
        return
    if host := host_of(url):
        st.link_button(
            f"Where it is described: {escaping.markdown(host)}",
            url,
            icon=":material/open_in_new:",
            type="tertiary",
        )
    _fact("Link", url)


def host_of(url: str) -> str:
    """Return the host that a link leads to; "" if it may not be the one it shows."""
    if not (url.isascii() and url.isprintable()):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.netloc if parts.scheme == "https" and _HOST.fullmatch(parts.netloc) else ""


def _techniques(tags: list[str]) -> None:
    found = [each for each in attack.techniques(tags) if _TECHNIQUE.fullmatch(each)]
    if found:
        with st.container(horizontal=True, gap="small", key="techniques"):
            for each in dict.fromkeys(found):
                name = attack.TECHNIQUES.get(each, "")
                path = each.replace(".", "/")
                st.link_button(
                    f"{each} {name}".strip(),
                    f"https://attack.mitre.org/techniques/{path}/",
                    type="tertiary",
                )


def _text(finding: dict[str, Any], rule: Rule | None) -> None:
    if rule is None:
        st.caption("The rule's file is not among those configured here.")
        return
    if rule.logic_hash != finding["logic_sha256"]:
        st.caption("The rule was changed since this finding; below is its present text.")
    with st.expander("Text of the rule", key=f"rule_{finding['rule_id'][:40]}"):
        st.code(visible.text(_file(rule), keep="\n"), language="yaml", wrap_lines=True)


def _file(rule: Rule) -> str:
    try:
        return rule.file.read_text(encoding="utf-8", errors="replace")[:_MOST_FILE]
    except OSError:
        return ""
