"""A Jira issue is looked for by its label before it is created, and updated once."""

import base64
import json

from pipelines.alerts.receivers import jira
from pipelines.settings.alerts import JiraReceiver
from tests.alerts.receivers.hostile import TEXT, WAY, envelope, is_plain
from tests.alerts.world import finding, receiving


class Jira:
    """As much of Jira as is needed: issues with labels and comments."""

    def __init__(self):
        self.issues = {}

    def __call__(self, got):
        body = json.loads(got.body)
        if got.path.endswith("/search/jql"):
            label = body["jql"].split('labels = "')[1].rstrip('"')
            found = [
                {"key": key, "fields": {"labels": issue["labels"]}}
                for key, issue in self.issues.items()
                if label in issue["labels"]
            ]
            return 200, {}, json.dumps({"issues": found}).encode()
        if got.method == "POST":
            key = f"SEC-{len(self.issues) + 1}"
            self.issues[key] = {**body["fields"], "comments": []}
            return 201, {}, json.dumps({"key": key}).encode()
        issue = self.issues[got.path.rpartition("/")[2]]
        issue["labels"] += [each["add"] for each in body["update"]["labels"]]
        issue["comments"] += [each["add"]["body"] for each in body["update"]["comment"]]
        return 204, {}, b""


def sent(service, *envelopes):
    with receiving(service) as server:
        receiver = JiraReceiver(
            kind="jira", url=server.url, user="a@example.com", api_token="t0k3n", project="SEC"
        )
        outcomes = [jira.send(receiver, each, WAY) for each in envelopes]
    return outcomes, server.got


def test_an_issue_is_created_once_however_often_it_is_sent():
    service = Jira()
    outcomes, got = sent(service, *[envelope(finding())] * 3)
    assert [each.result for each in outcomes] == ["sent"] * 3
    assert list(service.issues) == ["SEC-1"]
    assert service.issues["SEC-1"]["comments"] == []
    given = base64.b64encode(b"a@example.com:t0k3n").decode()
    assert got[0].headers["authorization"] == f"Basic {given}"


def test_an_update_is_one_comment_however_often_it_is_sent():
    service = Jira()
    sent(service, envelope(finding()), *[envelope(finding(), revision=1, resolved=True)] * 3)
    (issue,) = service.issues.values()
    assert len(issue["comments"]) == 1
    assert "RESOLVED" in json.dumps(issue["comments"][0])


def test_an_update_creates_an_issue_that_is_missing_but_an_end_does_not():
    service = Jira()
    outcomes, _ = sent(service, envelope(finding(), revision=3, resolved=True))
    assert outcomes[0].receipt == "there is no issue to comment on"
    assert service.issues == {}
    sent(service, envelope(finding(), revision=3))
    assert len(service.issues) == 1


def test_without_the_search_nothing_is_created():
    outcomes, got = sent(lambda _: (400, {}, b'{"errorMessages": ["no"]}'), envelope())
    assert outcomes[0].result == "later"
    assert len(got) == 1


def test_a_strange_key_is_not_put_into_an_address():
    found = {"issues": [{"key": "../../evil", "fields": {"labels": []}}]}
    _, got = sent(lambda _: (200, {}, json.dumps(found).encode()), envelope(finding(), revision=1))
    assert [each.path for each in got] == ["/rest/api/3/search/jql", "/rest/api/3/issue"]


def test_hostile_text_is_in_text_nodes_only():
    service = Jira()
    sent(service, envelope())
    (issue,) = service.issues.values()
    assert len(issue["summary"]) <= 255
    assert is_plain(issue["summary"])
    nodes = [node for each in issue["description"]["content"] for node in each["content"]]
    assert {each["type"] for each in issue["description"]["content"]} == {"paragraph"}
    assert {node["type"] for node in nodes} == {"text"}
    assert all(set(node) == {"type", "text"} and is_plain(node["text"]) for node in nodes)
    assert "http://" not in json.dumps(issue["description"])
    assert TEXT not in json.dumps(issue)
