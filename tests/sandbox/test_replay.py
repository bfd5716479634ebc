"""Replay of recorded records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import replay, server, service
from sandbox.server import Options
from sandbox.services import cloudflare, okta
from tests.sandbox.okta_reader import (
    SINCE,
    everything,
    iso,
    okta_client,
    published,
)
from tests.sandbox.setups import ANCHOR, Clock


def recording(folder: Path, *records: dict[str, Any] | bytes) -> Options:
    lines = [
        record if isinstance(record, bytes) else json.dumps(record).encode() for record in records
    ]
    folder.joinpath("okta.ndjson").write_bytes(b"\n".join(lines))
    return Options(anchor=ANCHOR, events=folder)


def test_recorded_records_are_moved_to_the_present_and_nothing_else_changes(tmp_path: Path) -> None:
    old = (
        b'{ "published":"2020-02-14T20:18:57.718Z","uuid" : "a", "note":"2020-02-14T20:18:57.718Z"}'
    )
    envelope = b'{"kind":"okta","stream":"system_log","raw":%s,"expected":1}' % old
    newer = {"uuid": "b", "published": "2020-02-14T21:18:57.718Z"}
    options = recording(tmp_path, envelope, newer, b"", {"uuid": "timeless"})
    with server.running(options, Clock()) as box, okta_client(box) as client:
        first, second, third = everything(client, since=SINCE)
    new = b'"published":"2026-11-18T13:59:58.718Z"'
    assert first == old.replace(b'"published":"2020-02-14T20:18:57.718Z"', new)
    assert published([second]) == ["2026-11-18T14:59:58.718Z"]
    assert third == b'{"uuid": "timeless"}'


def test_a_recording_of_years_is_compressed_into_the_retention(tmp_path: Path) -> None:
    start = datetime(2019, 3, 1, tzinfo=UTC)
    times = [start + timedelta(days=40 * number) for number in range(20)]
    options = recording(
        tmp_path, *({"uuid": str(n), "published": iso(time)} for n, time in enumerate(times))
    )
    with server.running(options, Clock()) as box, okta_client(box) as client:
        records = everything(client, since=iso(ANCHOR - timedelta(days=90)))
    assert [msgspec.json.decode(record)["uuid"] for record in records] == [
        str(n) for n in range(20)
    ]
    assert published(records) == sorted(published(records))
    assert min(published(records)) > iso(ANCHOR - timedelta(days=90))


@given(
    st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1)), min_size=1),  # noqa: DTZ001
    st.sampled_from(["milliseconds", "seconds", "microseconds"]),
    st.sampled_from(["Z", "+00:00", "-05:30", ""]),
)
@settings(max_examples=60, deadline=None)
def test_replay_keeps_order_format_and_every_record_within_reach(
    times: list[datetime], precision: str, zone: str
) -> None:
    stream = okta.SERVICE.streams[0]
    texts = [time.isoformat(timespec=precision) + zone for time in sorted(times)]
    lines = [b'{"published":"%s","n":%d}' % (t.encode(), n) for n, t in enumerate(texts)]
    moved = replay.moved(lines, stream, ANCHOR)
    assert [msgspec.json.decode(record.raw)["n"] for record in moved] == list(range(len(lines)))
    oldest = service.micros(ANCHOR - stream.keeps)
    for record, line in zip(moved, lines, strict=True):
        assert len(record.raw) == len(line)
        assert oldest < record.time < service.micros(ANCHOR)
        assert replay.time_of(msgspec.json.decode(record.raw)["published"]) == record.time


@pytest.mark.parametrize("parts", [1, 10**3, 10**6, 10**9])
def test_a_recorded_push_moves_like_the_same_record_that_was_polled(parts: int) -> None:
    lines = [
        b'{"id":"a","when":"2021-11-30T20:19:48Z"}',
        b'{"ID":"a","When":%d}' % (1638303588 * parts),
    ]
    polled, pushed = replay.moved(lines, cloudflare.SERVICE.streams[0], ANCHOR)
    assert pushed.time == polled.time
    assert msgspec.json.decode(pushed.raw)["When"] == polled.time * parts // 10**6
