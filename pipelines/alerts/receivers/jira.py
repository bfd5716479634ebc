"""Issues in Jira Cloud: https://developer.atlassian.com/cloud/jira/platform/rest/v3/.

Jira knows no key for deduplication, so each issue has a label, which is looked for first. An update
is a comment and another label in one request, so that it is added once.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any

from pipelines.alerts import wording
from pipelines.alerts.receivers import exchange
from pipelines.alerts.receivers.exchange import Envelope, Outcome
from pipelines.sdk import answers
from pipelines.settings.alerts import JiraReceiver
from pipelines.web.network import Way

_SUMMARY, _TEXT = 250, 30_000
_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,30}-\d{1,12}")


def send(receiver: JiraReceiver, envelope: Envelope, way: Way) -> Outcome:
    token = receiver.api_token.get_secret_value()
    basic = base64.b64encode(f"{receiver.user}:{token}".encode()).decode()
    headers, secrets = {"Authorization": f"Basic {basic}", "Accept": "application/json"}, [token]
    api = f"{receiver.url}/rest/api/3"
    search = {
        "jql": f'project = "{receiver.project}" AND labels = "{label(envelope)}"',
        "fields": ["labels"],
        "maxResults": 1,
    }
    found = exchange.send(way, "POST", f"{api}/search/jql", search, headers)
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
    changed = exchange.send(way, "PUT", f"{api}/issue/{issue}", updated(envelope), headers)
    return exchange.judged(changed, secrets)


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
            "description": document(wording.lines(envelope.alert, envelope.dashboard)),
            "labels": ["auditlake", label(envelope), label(envelope, envelope.revision)],
        }
    }


def updated(envelope: Envelope) -> dict[str, Any]:
    lines = [
        wording.headline(envelope.alert),
        *wording.lines(envelope.alert, envelope.dashboard),
    ]
    return {
        "update": {
            "labels": [{"add": label(envelope, envelope.revision)}],
            "comment": [{"add": {"body": document(lines)}}],
        }
    }


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
