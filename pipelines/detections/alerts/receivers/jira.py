"""Issues in Jira: version 3 of its API in the cloud, version 2 in a data center.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/
https://developer.atlassian.com/server/jira/platform/rest/

Jira knows no key for deduplication, so each issue has a label, which is looked for first. An update
is a comment and another label in one request, so that it is added once.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from pipelines.detections.alerts import wording
from pipelines.detections.alerts.receivers import exchange
from pipelines.detections.alerts.receivers.exchange import Envelope, Outcome
from pipelines.sdk import answers
from pipelines.settings.alerts import JiraReceiver
from pipelines.settings.network import Way

_SUMMARY, _TEXT = 250, 30_000
_MARK = re.compile(r"([{\[])(?=\s*(?:noformat|~))", re.IGNORECASE)
_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,30}-\d{1,12}")


def send(receiver: JiraReceiver, envelope: Envelope, way: Way) -> Outcome:
    secrets = [receiver.api_token.get_secret_value()]
    headers = {"Authorization": _credential(receiver), "Accept": "application/json"}
    api = f"{receiver.url}/rest/api/{2 if receiver.data_center else 3}"
    searching = "search" if receiver.data_center else "search/jql"
    search = {
        "jql": f'project = "{receiver.project}" AND labels = "{label(envelope)}"',
        "fields": ["labels"],
        "maxResults": 1,
    }
    found = exchange.send(way, "POST", f"{api}/{searching}", search, headers)
    if not found.is_success:
        outcome = exchange.judged(found, secrets)
        # Nothing was created, whatever the status; a missing permission may be granted.
        return Outcome(result="later", receipt=outcome.receipt, retry_after=outcome.retry_after)
    issue, labels = _first(answers.members(found.content))
    if issue is None:
        if envelope.alert.resolved:
            return Outcome(result="sent", receipt="there is no issue to comment on")
        return exchange.judged(
            exchange.send(way, "POST", f"{api}/issue", created(receiver, envelope), headers),
            secrets,
        )
    if label(envelope, envelope.revision) in labels:
        return Outcome(result="sent", receipt=f"{issue} has it already")
    changed = exchange.send(
        way, "PUT", f"{api}/issue/{issue}", updated(receiver, envelope), headers
    )
    return exchange.judged(changed, secrets)


def _credential(receiver: JiraReceiver) -> str:
    token = receiver.api_token.get_secret_value()
    if receiver.data_center:
        return f"Bearer {token}"
    return f"Basic {base64.b64encode(f'{receiver.user}:{token}'.encode()).decode()}"


def label(envelope: Envelope, revision: int | None = None) -> str:
    """Return the label of the issue, or of a revision of its text."""
    name = f"auditlake-{envelope.delivery[:40]}"
    return name if revision is None else f"{name}-{revision}"


def created(receiver: JiraReceiver, envelope: Envelope) -> dict[str, Any]:
    return {
        "fields": {
            "project": {"key": receiver.project},
            "issuetype": {"name": receiver.issue_type},
            "summary": wording.headline(envelope.alert, _SUMMARY),
            "description": _text(receiver, envelope),
            "labels": ["auditlake", label(envelope), label(envelope, envelope.revision)],
        }
    }


def updated(receiver: JiraReceiver, envelope: Envelope) -> dict[str, Any]:
    body = _text(receiver, envelope, wording.headline(envelope.alert))
    return {
        "update": {
            "labels": [{"add": label(envelope, envelope.revision)}],
            "comment": [{"add": {"body": body}}],
        }
    }


def _text(receiver: JiraReceiver, envelope: Envelope, *before: str) -> dict[str, Any] | str:
    """Return the alert in full, after some lines, in the format of this Jira."""
    alert, dashboard = envelope.alert, envelope.dashboard
    if receiver.data_center:
        return markup([*before, *wording.lines(alert)], wording.link_of(alert, dashboard))
    return document([*before, *wording.lines(alert, dashboard)])


def markup(lines: Iterable[str], link: str | None) -> str:
    """Return lines as a block that is shown as it is, in which nothing ends it or names a user.

    The link, which is ours, stands below. Where a field has no markup, the block's marks are shown.
    """
    # Jira looks for its marks in any case, and for users even within the block.
    plain = _MARK.sub(r"\1 ", "\n".join(filter(None, lines)))[:_TEXT]
    return f"{{noformat}}\n{plain}\n{{noformat}}" + (f"\n{link}" if link else "")


def document(lines: Iterable[str]) -> dict[str, Any]:
    """Return lines in the Atlassian Document Format, whose text nodes know no markup."""
    content, length = list[dict[str, Any]](), 0
    for line in filter(None, lines):
        length += len(line)
        if length > _TEXT:
            break
        content.append({"type": "paragraph", "content": [{"type": "text", "text": line}]})
    return {"type": "doc", "version": 1, "content": content}


def _first(found: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the key of the first issue of a search, and its labels."""
    match found.get("issues"):
        case [{"key": str(key), "fields": {"labels": list(labels)}}, *_] if _KEY.fullmatch(key):
            return key, [each for each in labels if isinstance(each, str)]
    return None, []
