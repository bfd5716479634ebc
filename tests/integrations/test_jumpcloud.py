"""JumpCloud's peculiarities: positions in headers, two kinds of credentials, varied records."""

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.errors import ConfigurationError, Refused
from pipelines.extraction import client as service_client
from pipelines.extraction.client import RetryPolicy
from pipelines.integrations import jumpcloud
from pipelines.mapping import normalise
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Span
from sandbox.faults import Fault
from sandbox.services import jumpcloud as sandbox

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = Span(since=NOW - timedelta(days=1), until=NOW)


def played(answer):
    """A client whose every request is answered by `answer`."""
    settings = jumpcloud.Settings(api_key=SecretStr("key"), org_id="org")
    source = Source(name="jumpcloud", integration=jumpcloud.INTEGRATION, settings=settings)
    return service_client.connect(
        source, transport=httpx.MockTransport(answer), retry_policy=RetryPolicy(attempts=1)
    )


def page(*ids, limit=2, after=None):
    headers = {"X-Limit": str(limit), "X-Result-Count": str(len(ids))}
    if after:
        headers["X-Search_after"] = json.dumps(after)
    return httpx.Response(200, json=[{"id": i} for i in ids], headers=headers)


def test_the_query_is_repeated_with_the_position_of_the_last_response():
    answers = [page("a", "b", after=[1, "x"]), page("c", "d", after=[2, "y"]), page(after=[3, "z"])]
    asked = []

    def answer(request):
        asked.append(json.loads(request.content))
        return answers[len(asked) - 1]

    found = [json.loads(r)["id"] for p in jumpcloud.read(played(answer), DAY) for r in p]
    assert found == ["a", "b", "c", "d"]
    assert [query.pop("search_after", None) for query in asked] == [None, [1, "x"], [2, "y"]]
    assert asked[0] == asked[1] == asked[2]
    assert asked[0]["service"] == ["all"]
    assert (asked[0]["start_time"], asked[0]["end_time"]) == (
        "2026-05-31T00:00:00Z",
        "2026-06-01T00:00:00Z",
    )


def test_a_page_that_is_not_full_is_the_last_despite_its_position():
    client = played(lambda request: page("a", limit=2, after=[1, "x"]))
    assert len(list(jumpcloud.read(client, DAY))) == 1


def test_a_full_page_without_a_position_is_an_error_and_never_the_end():
    client = played(lambda request: page("a", "b"))
    with pytest.raises(Refused, match="underscore"):
        list(jumpcloud.read(client, DAY))


def test_no_query_starts_in_the_future_or_after_its_end(still_world):
    still_world.poll("jumpcloud")
    _, asked = still_world.running.sandbox.requests("jumpcloud")
    assert {request.status for request in asked} == {200}


def test_the_sandbox_pages_by_positions_that_change_and_stay_valid(still_world):
    keys = sandbox.settings(f"{still_world.running.base_url}/jumpcloud")
    query = {"service": ["all"], "start_time": "2020-01-01T00:00:00Z", "limit": 50}
    headers = {"x-api-key": keys["api_key"]}
    with httpx.Client(headers=headers) as client:
        seen, places = [], []
        while True:
            response = client.post(f"{keys['base_url']}/events", json=query)
            seen += [record["id"] for record in response.json()]
            places.append(response.headers["x-search_after"])
            if response.headers["x-result-count"] != response.headers["x-limit"]:
                break
            query["search_after"] = json.loads(places[-1])
        query.pop("search_after", None)
        count = client.post(f"{keys['base_url']}/events/count", json=query).json()["count"]
    entries = still_world.running.sandbox.ledger("jumpcloud", "directory_insights")
    assert sorted(seen) == sorted(entry.id for entry in entries)
    assert count == len(seen)
    # A last page without records repeats the position before it.
    assert len(set(places[:-1])) == len(places) - 1 >= 5


def test_a_service_account_signs_in_and_names_its_organisation(still_world):
    keys = sandbox.settings_of_service_account(f"{still_world.running.base_url}/jumpcloud")
    still_world.disorder(Fault(kind="jumpcloud", fault="expire_token", at=list(range(2, 30, 3))))
    source = registry.source("jumpcloud", keys)
    with service_client.connect(source) as client:
        for _ in range(8):
            assert any(True for _ in jumpcloud.read(client, now_span()))


def now_span():
    now = datetime.now(UTC).replace(microsecond=0)
    return Span(since=now - timedelta(days=1), until=now)


def test_a_wrong_client_secret_is_reported_with_a_fix(still_world):
    keys = sandbox.settings_of_service_account(f"{still_world.running.base_url}/jumpcloud")
    source = registry.source("jumpcloud", {**keys, "client_secret": "wrong"})
    with (
        service_client.connect(source) as client,
        pytest.raises(Refused, match="client_secret") as error,
    ):
        list(jumpcloud.read(client, now_span()))
    assert "wrong" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"api_key": "no-such-key"}, "My API Key"),
        ({"api_key": sandbox.COMMAND_RUNNER_KEY}, "Command Runner"),
        ({"org_id": "another"}, "org_id"),
    ],
)
def test_a_refusal_explains_what_to_do(still_world, change, words):
    source = still_world.source("jumpcloud", **change)
    with service_client.connect(source) as client, pytest.raises(Refused, match=words):
        list(jumpcloud.read(client, now_span()))


@pytest.mark.parametrize(
    "keys", [{}, {"client_id": "a"}, {"client_id": "a", "client_secret": "b"}, {"org_id": "o"}]
)
def test_half_a_credential_is_a_configuration_error(keys):
    with pytest.raises(ConfigurationError, match=r"org_id|api_key"):
        registry.source("jumpcloud", keys)


def test_other_regions_are_another_base_url():
    keys = {"api_key": "k", "base_url": "https://api.eu.jumpcloud.com/insights/directory/v1"}
    source = registry.source("jumpcloud", keys)
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return page()

    with service_client.connect(source, transport=httpx.MockTransport(answer)) as client:
        list(jumpcloud.read(client, DAY))
    assert asked == ["https://api.eu.jumpcloud.com/insights/directory/v1/events"]


def test_radius_records_with_the_same_hash_differ_by_time():
    radius = "4F0A9C11-7B52-3D0E-9A43-0C2E6D7781F2"
    records = [
        json.dumps({"id": i, "timestamp": t}).encode()
        for i, t in [
            (radius, "2026-01-01T00:00:00Z"),
            (radius, "2026-01-01T00:00:01Z"),
            ("648c6c758c2ac07fa1fdee94", "2026-01-01T00:00:01Z"),
        ]
    ]
    rows = normalise.read(jumpcloud.DIRECTORY_INSIGHTS, records, NOW, "poll")
    assert rows["event_id"].n_unique() == 3
    assert rows["event_id"][2] == "648c6c758c2ac07fa1fdee94"


def test_times_of_any_precision_are_read():
    texts = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.162Z", "2026-01-01T00:00:00.34334445Z"]
    records = [json.dumps({"id": t, "timestamp": t}).encode() for t in texts]
    rows = normalise.read(jumpcloud.DIRECTORY_INSIGHTS, records, NOW, "poll")
    assert rows["fault"].is_null().all()
    assert rows["time"].dt.microsecond().to_list() == [0, 162000, 343344]


def test_events_that_a_device_reports_days_later_are_found():
    """An offline laptop: the windows of three days ago are read again."""
    asked = []

    def answer(request):
        query = json.loads(request.content)
        asked.append((query["start_time"], query["end_time"]))
        return page()

    client, stream = played(answer), jumpcloud.DIRECTORY_INSIGHTS
    cursor = stream.begin(NOW - timedelta(days=5), NOW)
    for page_ in stream.pages(client, cursor, NOW):
        cursor = page_.cursor
    asked.clear()
    for hours in range(0, 96):
        for page_ in stream.pages(client, cursor, NOW + timedelta(hours=hours)):
            cursor = page_.cursor
    event, arrives = NOW - timedelta(hours=1), NOW + timedelta(hours=70)
    covering = [(since, until) for since, until in asked if since <= iso(event) < until]
    assert len(covering) >= 3
    assert arrives - event < stream.lag


def iso(time):
    return time.isoformat().replace("+00:00", "Z")


def headers_of(**keys):
    """Return the headers of a query, as pairs."""
    sent = []

    def answer(request):
        sent.extend(request.headers.multi_items())
        return page()

    source = registry.source("jumpcloud", {"api_key": "k", **keys})
    with service_client.connect(source, transport=httpx.MockTransport(answer)) as client:
        list(jumpcloud.read(client, DAY))
    return [(name, value) for name, value in sent if name in ("x-org-id", "x-provider-id")]


FIRST, SECOND, PROVIDER = "a" * 24, "b" * 24, "c" * 24


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, []),
        ({"org_id": FIRST}, [("x-org-id", FIRST)]),
        ({"org_id": [FIRST, SECOND]}, [("x-org-id", FIRST), ("x-org-id", SECOND)]),
        ({"org_id": [f"https://console.jumpcloud.com/#/settings/{FIRST}"]}, [("x-org-id", FIRST)]),
        ({"provider_id": PROVIDER}, [("x-provider-id", PROVIDER)]),
    ],
)
def test_several_organisations_or_a_provider_are_read_in_one_section(keys, expected):
    assert headers_of(**keys) == expected


def test_organisations_and_a_provider_need_sections_of_their_own():
    with pytest.raises(ConfigurationError, match="section of its own"):
        registry.source("jumpcloud", {"api_key": "k", "org_id": FIRST, "provider_id": PROVIDER})


@pytest.mark.parametrize("ids", ["", [""], [FIRST, " "], [5]])
def test_an_empty_or_odd_organisation_is_a_configuration_error(ids):
    with pytest.raises(ConfigurationError, match="org_id"):
        registry.source("jumpcloud", {"api_key": "k", "org_id": ids})


@pytest.mark.parametrize(
    "keys",
    [
        {"org_id": [sandbox.ORG_ID, sandbox.SECOND_ORG_ID]},
        {"org_id": [], "provider_id": sandbox.PROVIDER_ID},
    ],
)
@pytest.mark.parametrize("settings", [sandbox.settings, sandbox.settings_of_service_account])
def test_a_provider_and_its_organisations_are_read_with_either_credential(
    still_world, settings, keys
):
    base_url = f"{still_world.running.base_url}/jumpcloud"
    source = registry.source("jumpcloud", {**settings(base_url), **keys})
    with service_client.connect(source) as client:
        assert [record for found in jumpcloud.read(client, now_span()) for record in found]


@pytest.mark.parametrize("days", [90, 15])
def test_a_start_before_the_retention_of_the_plan_is_moved(days):
    text = f"start_time is greater than Directory Insights' {days} day retention period"
    now = datetime.now(UTC)
    kept = now - timedelta(days=days)

    def answer(request):
        since = datetime.fromisoformat(json.loads(request.content)["start_time"])
        if since < kept + timedelta(minutes=5):
            return httpx.Response(400, json={"message": text})
        return page()

    client, stream = played(answer), jumpcloud.DIRECTORY_INSIGHTS
    walk = list(stream.pages(client, stream.begin(now - timedelta(days=90), now), now))
    gaps = [gap.span for found in walk for gap in found.gaps]
    covered = [found.covers for found in walk if found.covers]
    first = min(span.since for span in covered)
    assert first == max(gap.until for gap in gaps)
    assert kept < first <= kept + timedelta(minutes=11)
    assert all(gap.since >= now - timedelta(days=90, seconds=1) for gap in gaps)
