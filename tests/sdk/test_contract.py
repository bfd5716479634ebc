"""Fields list the paths they read, and a source has the streams that were chosen."""

from datetime import timedelta

import httpx
import pytest

from pipelines import registry
from pipelines.sdk.contract import Field, RequestPolicy, Stream


def joined(*values):
    return " ".join(map(str, values))


def test_a_field_lists_the_paths_of_its_parts_once_and_in_order():
    inner = Field(joined, "actor.id", "actor.name")
    outer = Field(joined, "id", inner, "actor.name", Field(joined, inner, "id", "ip"))
    assert outer.paths == ("id", "actor.id", "actor.name", "ip")
    assert Field(joined).paths == ()


def test_fields_of_the_same_function_and_parts_are_equal():
    """A part that several columns use is recognised by that, and computed once per row."""
    assert Field(joined, "a", Field(str, "b")) == Field(joined, "a", Field(str, "b"))
    assert len({Field(joined, "a"), Field(joined, "a"), Field(joined, "b"), Field(str, "a")}) == 3


def stream(name="log"):
    return Stream(name=name, begin=lambda since, now: "", pages=lambda *_: iter(()), id="id",
                  time="time", columns={}, keeps=timedelta(days=1))  # fmt: skip


def test_streams_are_told_apart_by_identity():
    """A reader is compiled per stream; its columns could not be hashed."""
    one, other = stream(), stream()
    assert one != other
    assert len({one, other, one}) == 2


@pytest.mark.parametrize("kind", sorted(registry.kinds()))
def test_an_integration_has_distinct_streams_that_keep_at_least_their_lag(kind):
    streams = registry.kind(kind).streams(None)
    names = [each.name for each in streams]
    assert names
    assert len(set(names)) == len(names)
    assert [each.name for each in streams if not timedelta(0) <= each.lag < each.keeps] == []


def test_a_source_has_all_streams_or_those_that_were_chosen():
    keys = {"tenant_id": "t", "client_id": "c", "client_secret": "x" * 20}
    every = [each.name for each in registry.source("entra_id", keys).streams()]
    chosen = registry.source("entra_id", {**keys, "streams": [every[2], every[0]]})
    assert [each.name for each in chosen.streams()] == [every[0], every[2]]


def test_a_service_without_a_policy_is_throttled_by_429_only():
    policy = RequestPolicy()
    throttled = [code for code in (200, 403, 429, 503) if policy.is_throttled(httpx.Response(code))]
    assert throttled == [429]
    assert policy.delay_after(httpx.Response(200)) == 0
    assert policy.retry_after(httpx.Response(429)) is None
