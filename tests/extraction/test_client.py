"""The HTTP client: retries, rate limits, and errors that help the operator."""

import httpx
import pytest
from pydantic import SecretStr

from pipelines import registry
from pipelines.errors import Refused, Unavailable
from pipelines.extraction import client as service_client
from pipelines.extraction.client import RetryPolicy
from pipelines.extraction.rate_limit import RateLimiter
from pipelines.integrations import okta
from pipelines.sdk.contract import RequestPolicy, Source

OK = httpx.Response(200, json=[])


class Clock:
    def __init__(self):
        self.now = 0.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Vendor:
    """Replays responses; an exception among them is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def client(vendor, clock, request_policy=None):
    source = Source(
        name="okta",
        integration=okta.INTEGRATION,
        settings=okta.Settings(base_url="https://acme.example.com", api_token=SecretStr("s3cret")),
    )
    return service_client.connect(
        source,
        transport=httpx.MockTransport(vendor),
        rate_limiter=RateLimiter(
            request_policy or okta.INTEGRATION.request_policy, clock, clock.sleep
        ),
        retry_policy=RetryPolicy(),
    )


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(503),
        httpx.Response(500, text="<html>"),
        httpx.Response(429, headers={"Retry-After": "2"}),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("peer closed connection"),
        httpx.Response(200, headers={"Content-Type": "application/json"}, content=b'[{"a":1},{'),
    ],
    ids=["503", "html 500", "429", "timeout", "reset", "truncated"],
)
def test_a_transient_failure_is_retried(trouble):
    vendor, clock = Vendor(trouble, trouble, OK), Clock()
    assert client(vendor, clock).get("/api/v1/logs").status_code == 200
    assert len(vendor.requests) == 3


def test_backoff_grows_and_ends():
    vendor, clock = Vendor(httpx.Response(503)), Clock()
    with pytest.raises(Unavailable, match="503"):
        client(vendor, clock).get("/api/v1/logs?after=x")
    assert len(vendor.requests) == RetryPolicy().attempts
    assert clock.slept[-1] > clock.slept[0]
    assert sum(clock.slept) < 120


def test_retry_after_is_measured_by_the_vendors_clock():
    headers = {
        "Date": "Mon, 01 Jun 2026 10:00:00 GMT",
        "X-Rate-Limit-Limit": "60",
        "X-Rate-Limit-Remaining": "0",
        "X-Rate-Limit-Reset": "1780308030",  # 30 s later
    }
    vendor, clock = Vendor(httpx.Response(429, headers=headers), OK), Clock()
    client(vendor, clock).get("/api/v1/logs")
    assert 31 <= clock.now < 32


@pytest.mark.parametrize(
    ("kind", "first"), [("google_workspace", 5), ("entra_id", 10), ("office_365", 30)]
)
def test_throttling_without_a_time_backs_off_exponentially(kind, first):
    vendor, clock = Vendor(httpx.Response(429), httpx.Response(429), OK), Clock()
    client(vendor, clock, registry.kind(kind).request_policy).get("/x")
    assert clock.slept == [first, min(60, 2 * first)]


def test_requests_slow_down_before_the_limit():
    headers = {
        "Date": "Mon, 01 Jun 2026 10:00:00 GMT",
        "X-Rate-Limit-Limit": "60",
        "X-Rate-Limit-Remaining": "5",
        "X-Rate-Limit-Reset": "1780308030",
    }
    vendor, clock = Vendor(httpx.Response(200, headers=headers, json=[])), Clock()
    asking = client(vendor, clock)
    asking.get("/1")
    asking.get("/2")
    assert clock.now == pytest.approx(5.0)


def test_a_rate_limit_is_kept():
    clock = Clock()
    rate_limiter = RateLimiter(RequestPolicy(rate=(5, 10.0)), clock, clock.sleep)
    times = []
    for _ in range(12):
        rate_limiter.wait()
        times.append(clock.now)
    assert all(later - earlier >= 10 for earlier, later in zip(times, times[5:], strict=False))


def test_too_long_a_wait_is_left_to_the_next_round():
    vendor, clock = Vendor(httpx.Response(429, headers={"Retry-After": "86400"})), Clock()
    with pytest.raises(Unavailable, match="429"):
        client(vendor, clock).get("/x")
    assert clock.now == 0


@pytest.mark.parametrize(
    ("status", "word"), [(401, "token"), (403, "Read-only"), (404, "base_url")]
)
def test_a_refusal_explains_what_to_do_and_shows_no_secret(status, word):
    body = {"errorSummary": "Authorization: SSWS s3cret"}
    vendor = Vendor(httpx.Response(status, json=body))
    with pytest.raises(Refused, match=word) as error:
        client(vendor, Clock()).get("/api/v1/logs?after=abc")
    assert "s3cret" not in str(error.value) + repr(error.value)
    assert "abc" not in str(error.value)


def test_a_redirect_is_not_followed():
    vendor = Vendor(httpx.Response(302, headers={"Location": "https://evil.example.net/"}))
    with pytest.raises(Refused, match="redirect"):
        client(vendor, Clock()).get("/api/v1/logs")
    assert len(vendor.requests) == 1
