"""Office 365's peculiarities: subscriptions, windows of availability, blobs that disappear."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

import httpx
import polars as pl
import pytest

from pipelines import registry
from pipelines.cli import doctor
from pipelines.errors import ForeignLink, Refused, Unavailable
from pipelines.extraction import client as service_client
from pipelines.extraction import rounds
from pipelines.extraction.client import RetryPolicy
from pipelines.extraction.rate_limit import RateLimiter
from pipelines.integrations import office_365
from pipelines.sdk.contract import Source
from pipelines.sdk.pages import Span
from sandbox.faults import Fault
from sandbox.services import office_365 as sandbox

NOW = datetime(2026, 6, 1, 12, 34, 56, tzinfo=UTC)
ROOT = "https://manage.office.com"
TENANT = "0c5a2b7d-1e3f-4a5b-8c6d-7e8f90a1b2c3"
KEYS = {"tenant_id": TENANT, "client_id": "c", "client_secret": "s3cret-of-the-app"}
PUBLISHER = "7d6c5b4a-3f2e-4d1c-8b0a-9f8e7d6c5b4a"


def settings(**keys):
    return office_365.Settings(**{**KEYS, **keys})


def played(answer, attempts=1, **keys):
    """A client that is given a token, and whose every other request is answered by `answer`."""

    def handle(request):
        if request.url.path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "token", "expires_in": "3599"})
        return answer(request)

    source = Source(name="o", integration=office_365.INTEGRATION, settings=settings(**keys))
    transport = httpx.MockTransport(handle)
    return service_client.connect(
        source,
        transport=transport,
        retry_policy=RetryPolicy(attempts=attempts),
        rate_limiter=RateLimiter(source.integration.request_policy),
    )


def stream(name="general", **keys):
    found = office_365.INTEGRATION.streams(settings(**keys))
    return next(each for each in found if each.name == name)


def error(status, code, message=""):
    return httpx.Response(status, json={"error": {"code": code, "message": message}})


class Tenant:
    """A tenant's content: contentId -> (when it was created, its answer)."""

    def __init__(self, **content):
        self.content = content
        self.requests = []
        self.more = {}

    def __call__(self, request):
        self.requests.append(request)
        if "/audit/" in request.url.path:
            _, answer = self.content[request.url.path.rpartition("/")[2]]
            return answer() if callable(answer) else answer
        asked = query(request)
        if special := self.more.get(request.url.path.rpartition("/")[2]):
            return special(request)
        listed = [
            item(name, created)
            for name, (created, _) in self.content.items()
            if asked["startTime"] <= f"{created:%Y-%m-%dT%H:%M:%S}" < asked["endTime"]
        ]
        return httpx.Response(200, json=listed)

    def fetched(self):
        return [r.url.path.rpartition("/")[2] for r in self.requests if "/audit/" in r.url.path]

    def asked(self, operation):
        return [r for r in self.requests if r.url.path.endswith(f"/{operation}")]


def item(name, created, root=ROOT):
    return {
        "contentType": "Audit.General",
        "contentId": name,
        "contentUri": f"{root}/api/v1.0/{TENANT}/activity/feed/audit/{name}",
        "contentCreated": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "contentExpiration": (created + timedelta(days=7)).isoformat(),
    }


def query(request):
    return {name: value for name, (value, *_) in parse_qs(urlsplit(str(request.url)).query).items()}


def events(*ids):
    return httpx.Response(
        200, json=[{"Id": id_, "CreationTime": "2026-06-01T10:00:00"} for id_ in ids]
    )


def walk(answer, cursor=None, since=NOW - timedelta(hours=6), now=NOW, **keys):
    """(pages, what ended them)."""
    found, pages = stream(**keys), []
    try:
        for page in found.pages(played(answer, **keys), cursor or found.begin(since, now), now):
            pages.append(page)
    except Exception as failure:
        return pages, failure
    return pages, None


def ids(pages):
    return [json.loads(record)["Id"] for page in pages for record in page.records]


def ago(**time):
    return NOW - timedelta(**time)


def test_windows_start_and_end_with_the_hour_and_are_no_longer_than_a_day():
    tenant = Tenant()
    pages, failure = walk(tenant, since=NOW - timedelta(days=30))
    assert failure is None
    windows = [query(request) for request in tenant.asked("content")]
    spans = [
        (datetime.fromisoformat(w["startTime"]), datetime.fromisoformat(w["endTime"]))
        for w in windows
    ]
    oldest = (NOW - timedelta(days=7) + timedelta(minutes=5)).replace(tzinfo=None)
    assert all(timedelta(0) < end - start <= timedelta(days=1) for start, end in spans)
    assert all(start.minute == 0 or start == oldest for start, _ in spans)
    assert all((end.minute, end.second) == (0, 0) for _, end in spans)
    assert min(start for start, _ in spans) == oldest
    assert max(end for _, end in spans) == NOW.replace(tzinfo=None, hour=13, minute=0, second=0)
    covered = sorted((page.covers.since, page.covers.until) for page in pages if page.covers)
    assert covered[0][0] == NOW - timedelta(days=7) + timedelta(minutes=5)
    assert all(until >= since for (_, until), (since, _) in pairwise(covered))


def test_every_request_names_the_publisher_once():
    tenant = Tenant(a=(ago(hours=1), events("1")), b=(ago(hours=2), events("2")))
    listings = iter([None, item("b", ago(hours=2))])

    def content(request):
        following = next(listings)
        if following:
            return httpx.Response(200, json=[following])
        link = f"{request.url}".replace("/api/v1.0/", "/api/v1/").partition("&Publisher")[0]
        headers = {"nextpageuri": f"{link}&nextPage=2026R1"}
        return httpx.Response(200, json=[item("a", ago(hours=1))], headers=headers)

    tenant.more["content"] = content
    pages, failure = walk(tenant, publisher_id=PUBLISHER)
    assert (failure, sorted(ids(pages))) == (None, ["1", "2"])
    assert len(tenant.requests) == 4
    for request in tenant.requests:
        assert str(request.url).count(f"PublisherIdentifier={PUBLISHER}") == 1
    assert tenant.requests[1].url.path.startswith("/api/v1/")
    assert settings().publisher_id == TENANT


@pytest.mark.parametrize(
    "started",
    [
        httpx.Response(200, json={"contentType": "Audit.General", "status": "enabled"}),
        error(400, "AF20024", "The subscription is already enabled. No property change."),
        error(400, "AF20099", "The subscription is already enabled."),
    ],
)
def test_a_subscription_is_started_on_demand_and_tolerated_when_it_is_on(started):
    tenant = Tenant()
    answers = iter([error(400, "AF20022", "No subscription found"), httpx.Response(200, json=[])])
    tenant.more |= {"start": lambda _: started, "content": lambda _: next(answers)}
    _, failure = walk(tenant)
    assert failure is None
    (start,) = tenant.asked("start")
    assert (start.method, start.headers["Content-Length"]) == ("POST", "0")
    assert query(start)["contentType"] == "Audit.General"


def test_a_subscription_that_cannot_be_started_reports_why():
    tenant = Tenant()
    tenant.more |= {
        "content": lambda _: error(400, "AF20022"),
        "start": lambda _: httpx.Response(
            400,
            json={
                "error": {
                    "code": f"StartSubscription [CorrId=1][TenantId={TENANT}",
                    "message": "Exception: DataServiceException: Tenant x does not exist.\r\n at",
                }
            },
        ),
    }
    _, failure = walk(tenant)
    assert isinstance(failure, Refused)
    assert "unified auditing is off" in str(failure)


def test_a_start_is_sent_once_in_15_minutes_across_restarts_and_never_by_doctor(
    still_world, tmp_path
):
    source, now = still_world.source("office_365", streams=["general"]), [0.0]
    no_content = {"fault": "answer", "status": 400, "body": error(400, "AF20022").text}
    still_world.disorder(
        Fault(kind="office_365", every=True, path="subscriptions/content", **no_content),
        Fault(kind="office_365", every=True, path="subscriptions/start", **no_content),
    )

    def connect(source, **options):
        policy = replace(source.integration.request_policy, rate=None)
        limiter = RateLimiter(policy, lambda: 1e6 + now[0], lambda _: None, tmp_path / "turns")
        return service_client.connect(source, rate_limiter=limiter, **options)

    def starts():
        asked = still_world.running.sandbox.requests("office_365")[1]
        return sum(each.path.endswith("/start") for each in asked)

    careful = partial(connect, read_only=True)
    checks = list(doctor.examine(still_world.lake, [source], datetime.now(UTC), careful))
    assert (starts(), [check.fault for check in checks]) == (0, [None, None])
    assert "there is no subscription to Audit.General yet" in checks[1].note
    for minutes, expected in ((0, 1), (1, 1), (14, 1), (16, 2), (30, 2), (32, 3)):
        now[0] = minutes * 60.0
        (report,) = rounds.poll(still_world.lake, [source], connect=connect)
        assert report.error
        assert starts() == expected
    assert "allows the next request in" not in report.error
    (report,) = rounds.poll(still_world.lake, [source], connect=connect)
    assert "allows the next request in 15 minutes" in report.error


def test_a_subscription_that_is_on_is_not_started_again(still_world):
    still_world.poll("office_365")
    asked = still_world.running.sandbox.requests("office_365")[1]
    assert sum(each.path.endswith("/start") for each in asked) == 5
    still_world.poll("office_365")
    asked = still_world.running.sandbox.requests("office_365")[1]
    assert sum(each.path.endswith("/start") for each in asked) == 5


def test_a_second_round_lists_once_and_fetches_nothing():
    tenant = Tenant(a=(ago(minutes=3), events("1")), b=(ago(minutes=50), events("2")))
    pages, _ = walk(tenant)
    before = len(tenant.requests)
    pages, failure = walk(tenant, pages[-1].cursor, now=NOW + timedelta(seconds=9))
    assert (failure, ids(pages)) == (None, [])
    assert len(tenant.requests) == before + 1


def test_content_that_becomes_available_later_in_the_same_second_is_not_missed():
    tenant = Tenant(a=(NOW, events("1")))
    pages, _ = walk(tenant)
    tenant.content["b"] = (NOW, events("2"))
    more, _ = walk(tenant, pages[-1].cursor, now=NOW + timedelta(seconds=9))
    assert ids(pages) + ids(more) == ["1", "2"]


def test_a_failed_blob_keeps_its_window_open_and_the_others_land():
    tenant = Tenant(
        good=(ago(hours=1), events("1")),
        bad=(ago(hours=2), httpx.Response(500)),
        fine=(ago(hours=3), events("3")),
    )
    pages, failure = walk(tenant)
    assert isinstance(failure, Unavailable)
    assert ids(pages) == ["1", "3"]
    assert not any(page.covers for page in pages)
    tenant.content["bad"] = (ago(hours=2), events("2"))
    tenant.requests.clear()
    pages, failure = walk(tenant, pages[-1].cursor, now=NOW + timedelta(minutes=1))
    assert (failure, ids(pages), tenant.fetched()) == (None, ["2"], ["bad"])
    assert pages[-1].covers


@pytest.mark.parametrize(
    "gone",
    [
        httpx.Response(404),
        error(404, "AF20051", "Content has already expired."),
        error(400, "AF20050", "The specified content does not exist."),
        error(400, "AF20052", "Content ID is invalid."),
    ],
)
def test_a_blob_that_is_gone_is_a_gap_and_reported_once(gone):
    tenant = Tenant(good=(ago(hours=1), events("1")), gone=(ago(hours=2), gone))
    pages, failure = walk(tenant)
    assert (failure, ids(pages)) == (None, ["1"])
    (gap,) = [gap for page in pages for gap in page.gaps]
    assert gap.span.since == ago(hours=2)
    assert "gone" in gap.reason
    assert pages[-1].covers
    pages, failure = walk(tenant, pages[-1].cursor, now=NOW + timedelta(minutes=1))
    assert [gap for page in pages for gap in page.gaps] == []


def test_a_gap_is_recorded_in_the_lake(still_world):
    fault = Fault(kind="office_365", fault="status", status=404, path="/audit/", count=1)
    still_world.disorder(fault)
    reports = still_world.poll("office_365")
    assert [report.error for report in reports] == [None] * 5
    assert sum(len(report.gaps) for report in reports) == 1


def test_blobs_are_fetched_in_parallel():
    together = threading.Barrier(4, timeout=20)

    def answer():
        together.wait()
        return events("x")

    tenant = Tenant(**{f"blob{n}": (ago(hours=1), answer) for n in range(4)})
    pages, failure = walk(tenant)
    assert failure is None
    assert len(ids(pages)) == 4


def test_the_newest_blobs_come_first():
    tenant = Tenant(**{f"b{n}": (ago(hours=n), events(str(n))) for n in (3, 1, 5, 2)})
    pages, _ = walk(tenant)
    assert ids(pages) == ["1", "2", "3", "5"]


def test_an_expired_page_of_the_list_restarts_its_window():
    tenant = Tenant(a=(ago(hours=1), events("1")))
    answers = iter(
        [
            httpx.Response(200, json=[], headers={"NextPageUri": f"{ROOT}/api/v1/x?nextPage=1"}),
            httpx.Response(200, json=[item("a", ago(hours=1))]),
        ]
    )
    tenant.more |= {
        "x": lambda _: error(400, "AF20031", "Invalid nextPage Input"),
        "content": lambda _: next(answers),
    }
    pages, failure = walk(tenant)
    assert (failure, ids(pages)) == (None, ["1"])


@pytest.mark.parametrize("where", ["contentUri", "NextPageUri"])
def test_a_link_to_another_host_is_refused(where):
    tenant = Tenant()
    if where == "contentUri":
        listed = httpx.Response(200, json=[item("a", ago(hours=1), "https://evil.example.net")])
    else:
        listed = httpx.Response(200, json=[], headers={"NextPageUri": "https://evil.example.net/"})
    tenant.more["content"] = lambda _: listed
    _, failure = walk(tenant)
    assert isinstance(failure, ForeignLink)
    assert tenant.fetched() == []


def test_malformed_content_is_retried_later():
    tenant = Tenant(a=(ago(hours=1), httpx.Response(200, text="<html>")))
    _, failure = walk(tenant)
    assert isinstance(failure, Unavailable)
    tenant = Tenant()
    tenant.more["content"] = lambda _: httpx.Response(200, json=[{"contentId": "a"}])
    _, failure = walk(tenant)
    assert isinstance(failure, Unavailable)


def test_too_many_requests_may_come_as_403():
    answers = iter([error(403, "AF429", "Too many requests."), error(429, "AF429"), events("1")])
    for answer in (error(403, "AF429"), error(429, "AF429")):
        assert office_365.INTEGRATION.request_policy.is_throttled(answer)
    assert not office_365.INTEGRATION.request_policy.is_throttled(error(403, "AF10001"))

    def answer():
        response = next(answers)
        response.headers["Retry-After"] = "0"
        return response

    tenant = Tenant(a=(ago(hours=1), answer))
    found = stream()
    client = played(tenant, attempts=4)
    pages = list(found.pages(client, found.begin(NOW - timedelta(hours=6), NOW), NOW))
    assert ids(pages) == ["1"]


def test_interrupted_history_fetches_no_blob_twice():
    content = {f"b{n}": (ago(days=4, minutes=n), events(str(n))) for n in range(30)}
    tenant = Tenant(**content)
    broken = {**content, "b20": (content["b20"][0], httpx.Response(503))}
    tenant.content = broken
    pages, failure = walk(tenant, since=NOW - timedelta(days=6))
    assert isinstance(failure, Unavailable)
    landed = set(ids(pages))
    assert "19" in landed
    tenant.content = content
    tenant.requests.clear()
    pages, failure = walk(tenant, pages[-1].cursor, now=NOW + timedelta(minutes=2))
    assert failure is None
    assert landed | set(ids(pages)) == {str(n) for n in range(30)}
    assert not landed & set(ids(pages))


def test_the_cursor_stays_small():
    tenant = Tenant(**{f"b{n}": (ago(hours=n), events(str(n))) for n in range(1, 150)})
    pages, failure = walk(tenant, since=NOW - timedelta(days=7))
    assert (failure, len(ids(pages))) == (None, 149)
    assert len(json.loads(pages[-1].cursor)["seen"]) <= 4


def test_a_span_of_history_is_fetched_alone():
    tenant = Tenant(a=(ago(days=3), events("1")), b=(ago(hours=1), events("2")))
    found, span = stream(), Span(since=ago(days=3, hours=2), until=ago(days=2))
    pages = list(found.pages(played(tenant), found.between(span, NOW), NOW))
    assert ids(pages) == ["1"]


def test_events_that_are_delivered_again_are_stored_once(still_world):
    still_world.poll("office_365")
    for name in ("exchange", "sharepoint"):
        stored = still_world.stored("office_365", name)
        assert sorted(stored["raw_sha256"]) == sorted(still_world.issued("office_365", name))
        assert stored["event_id"].is_unique().all()


def test_a_match_and_its_undo_are_two_events_and_parts_are_distinct():
    record = {"Id": "1", "CreationTime": "2026-06-01T10:00:00", "UserId": "DlpAgent"}
    match, undo = record | {"Operation": "DlpRuleMatch"}, record | {"Operation": "DlpRuleUndo"}
    identity = stream("dlp").id.derive
    assert identity(match["Id"], match["Operation"]) != identity(undo["Id"], undo["Operation"])
    assert identity(None, "DlpRuleMatch") is None
    part = stream("general").id.derive
    assert (part("1", None), part("1", 2), part(None, 2)) == ("1", "1#2", None)


@pytest.mark.parametrize(
    ("operation", "status", "outcome"),
    [
        ("UserLoginFailed", "Success", "failure"),
        ("UserLoggedIn", "Success", "success"),
        ("Add application.", "Failure", "failure"),
        ("Set-Mailbox", "True", "success"),
        ("Send", "PartiallySucceeded", "success"),
        ("GroupCreation", "TRUE", "success"),
        ("FileDownloaded", None, "unknown"),
        ("Set-Mailbox", False, "failure"),
    ],
)
def test_a_misleading_status_does_not_decide_the_outcome(operation, status, outcome):
    assert office_365._outcome(operation, status, None, None) == outcome


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (("", None, "192.0.2.1"), "192.0.2.1"),
        (("host.example (192.0.2.7)",), "192.0.2.7"),
        (("[HOST (192.0.2.7)]",), "192.0.2.7"),
        ((7, "192.0.2.1:80"), "192.0.2.1"),
        ((None, ""), None),
    ],
)
def test_the_first_address_that_is_present_counts(given, address):
    assert office_365._address(*given) == address


@pytest.mark.parametrize(
    ("key", "user_id"),
    [
        ("i:0h.f|membership|1003200b7c41d0e2@live.com", "1003200B7C41D0E2"),
        ("1003200B7C41D0E2@larkfield.example", "1003200B7C41D0E2"),
        ("1003200B7C41D0E2", "1003200B7C41D0E2"),
        ("Not Available", None),
        ("DlpAgent", "DlpAgent"),
    ],
)
def test_a_person_has_the_same_id_in_mail_and_files(key, user_id):
    assert office_365._actor_id(key, None, 1, None) == user_id


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (error(401, "AF10001"), "ActivityFeed.Read of Office 365"),
        (error(403, ""), "ActivityFeed.Read of Office 365"),
        (error(400, "AF20013"), "GUID"),
        (error(400, "AF20055"), "clock"),
        (error(400, "AF20023"), "administrator"),
        (httpx.Response(401, json={"Message": "Authorization has been denied"}), "same cloud"),
        (httpx.Response(404), "correct base_url"),
    ],
)
def test_a_refusal_explains_what_to_do(answer, advice):
    assert advice in office_365.INTEGRATION.advice(answer)


def test_a_missing_permission_is_named(still_world):
    source = still_world.source("office_365", client_id=sandbox.NO_ROLES_CLIENT_ID)
    found, now = source.streams()[0], datetime.now(UTC)
    with (
        service_client.connect(source) as client,
        pytest.raises(Refused, match=r"ActivityFeed\.Read"),
    ):
        list(found.pages(client, found.begin(now - timedelta(days=1), now), now))


@pytest.mark.parametrize(
    ("base_url", "login", "scope"),
    [
        (ROOT, "login.microsoftonline.com", ROOT),
        ("https://manage-gcc.office.com", "login.microsoftonline.com", None),
        ("https://manage.office365.us", "login.microsoftonline.us", None),
        ("https://manage.protection.apps.mil", "login.microsoftonline.us", None),
        ("http://localhost:8700/office_365", "login.microsoftonline.com", ROOT),
    ],
)
def test_each_cloud_has_its_own_sign_in(base_url, login, scope):
    flow = office_365.INTEGRATION.auth(settings(base_url=base_url)).auth_flow(
        httpx.Request("GET", base_url)
    )
    request = next(flow)
    assert request.url.host == login
    assert parse_qs(request.content.decode())["scope"] == [f"{scope or base_url}/.default"]


def test_a_certificate_signs_in(still_world):
    keys = still_world.running.settings()["office_365"]
    del keys["client_secret"]
    source = registry.source(
        "office_365", keys | {"certificate": sandbox.microsoft.certificate_pem()}
    )
    with service_client.connect(source) as client:
        feed = f"/api/v1.0/{keys['tenant_id']}/activity/feed/subscriptions/list"
        assert client.get(feed).json() == []


def test_one_attack_shows_across_services(still_world):
    still_world.poll("entra_id", "office_365")
    grants = [
        still_world.events("entra_id", "directory_audits").filter(
            pl.col("action") == "Add member to role"
        ),
        still_world.events("office_365", "azure_active_directory").filter(
            pl.col("action") == "Add member to role."
        ),
    ]
    told = [
        set(found.select("time_s", "actor_email").iter_rows()) for found in map(seconds, grants)
    ]
    assert told[0] & told[1]


def seconds(frame):
    return frame.with_columns(time_s=pl.col("time").dt.truncate("1s"))
