"""A Jira issue is looked for by its label before it is created, and updated once."""

import base64
import json
import re

import pytest
from pydantic import ValidationError

from pipelines.detections.alerts.receivers import jira
from pipelines.settings.alerts import JiraReceiver
from tests.detections.alerts.receivers.hostile import TEXT, WAY, envelope, is_plain
from tests.detections.alerts.world import finding, receiving


class Jira:
    """As much of Jira as is needed: issues with labels and comments."""

    def __init__(self):
        self.issues = {}

    def __call__(self, got):
        body = json.loads(got.body)
        if got.path.endswith(("/search/jql", "/2/search")):
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


CLOUD = {"user": "a@example.com"}
DATA_CENTER = {"data_center": True}
BOTH = pytest.mark.parametrize("kind", [CLOUD, DATA_CENTER])


def sent(service, *envelopes, **kind):
    with receiving(service) as server:
        receiver = JiraReceiver(
            kind="jira", url=server.url, api_token="t0k3n", project="SEC", **(kind or CLOUD)
        )
        outcomes = [jira.send(receiver, each, WAY) for each in envelopes]
    return outcomes, server.got


@BOTH
def test_an_issue_is_created_once_however_often_it_is_sent(kind):
    service = Jira()
    outcomes, got = sent(service, *[envelope(finding())] * 3, **kind)
    assert [each.result for each in outcomes] == ["sent"] * 3
    assert list(service.issues) == ["SEC-1"]
    assert service.issues["SEC-1"]["comments"] == []
    given = base64.b64encode(b"a@example.com:t0k3n").decode()
    expected = f"Basic {given}" if kind == CLOUD else "Bearer t0k3n"
    assert {each.headers["authorization"] for each in got} == {expected}


@BOTH
def test_an_update_is_one_comment_however_often_it_is_sent(kind):
    service, update = Jira(), envelope(finding(), revision=1, resolved=True)
    sent(service, envelope(finding()), *[update] * 3, **kind)
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


def test_a_data_center_is_asked_by_version_2_and_answers_429():
    answer = 429, {"Retry-After": "7"}, b"t0k3n"
    outcomes, got = sent(lambda _: answer, envelope(finding()), **DATA_CENTER)
    assert (outcomes[0].result, outcomes[0].retry_after) == ("later", 7)
    assert "t0k3n" not in outcomes[0].receipt
    assert [each.path for each in got] == ["/rest/api/2/search"]


def test_hostile_text_does_not_leave_the_block_of_a_data_center():
    service = Jira()
    sent(service, envelope(), envelope(revision=1), **DATA_CENTER)
    (issue,) = service.issues.values()
    for text in (issue["description"], *issue["comments"]):
        lines = text.splitlines()
        assert (lines[0], text.count("{noformat}")) == ("{noformat}", 2)
        assert all(map(is_plain, lines))
        assert TEXT not in text
    odd = ["a {NoFormat} b", "{ noformat:x}", "[~ada] [ ~accountid:1]", "{{[~x"]
    block = jira.markup(odd, "https://audit.example/findings")
    assert len(re.findall(r"\{noformat", block, re.IGNORECASE)) == 2
    assert "[~" not in block
    assert block.endswith("{noformat}\nhttps://audit.example/findings")
    assert len(jira.markup(["[~" * 99] * 9999, None)) < 32_767


@pytest.mark.parametrize("wrong", [{}, {**CLOUD, **DATA_CENTER}])
def test_the_cloud_needs_a_user_and_a_data_center_takes_none(wrong):
    with pytest.raises(ValidationError, match="user"):
        JiraReceiver(kind="jira", url="https://j.example", api_token="t", project="SEC", **wrong)


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
