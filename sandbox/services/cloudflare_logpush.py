"""Cloudflare's Logpush to an HTTP endpoint, simulated: jobs, the test upload, gzipped batches.

https://developers.cloudflare.com/logs/logpush/logpush-job/enable-destinations/http/
An HTTP destination has no ownership challenge; a job is created once a test upload succeeds.
Batches that cannot be delivered are lost. Records differ from the API's: members are flat and in
PascalCase, and times are nanoseconds unless the job sets another format.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from sandbox import pushes
from sandbox.pushes import Attempt, Delivery, NotHere, Patience, Subscription
from sandbox.service import Follower, Record, Site, at, batches, decoded, iso, micros

Refuse = Callable[[int, int, str], Response]
"""(status, code, message) -> Cloudflare's error response."""
Admit = Callable[[Request], Response | None]
Succeed = Callable[[bytes, None], Response]
Stamp = Literal["unixnano", "unix", "rfc3339"]

_PATIENCE = Patience(pauses=(1.0, 2.0, 4.0, 8.0), again=lambda _status: True)
_EVERY = 1.0
_MOST_RECORDS = 1000
_TEST = gzip.compress(b'{"content":"tests"}', mtime=0)

V1: Mapping[str, str] = {
    "ActionResult": "action.result",
    "ActionType": "action.type",
    "ActorEmail": "actor.email",
    "ActorID": "actor.id",
    "ActorIP": "actor.ip",
    "ActorType": "actor.type",
    "ID": "id",
    "Interface": "interface",
    "Metadata": "metadata",
    "NewValue": "newValueJson",
    "OldValue": "oldValueJson",
    "OwnerID": "owner.id",
    "ResourceID": "resource.id",
    "ResourceType": "resource.type",
    "When": "when",
}
V2: Mapping[str, str] = {
    "AccountID": "account.id",
    "AccountName": "account.name",
    "ActionDescription": "action.description",
    "ActionResult": "action.result",
    "ActionTimestamp": "action.time",
    "ActionType": "action.type",
    "ActorContext": "actor.context",
    "ActorEmail": "actor.email",
    "ActorID": "actor.id",
    "ActorIPAddress": "actor.ip_address",
    "ActorTokenDetails": "actor.token",
    "ActorType": "actor.type",
    "AuditLogID": "id",
    "Raw": "raw",
    "ResourceID": "resource.id",
    "ResourceProduct": "resource.product",
    "ResourceRequest": "resource.request",
    "ResourceResponse": "resource.response",
    "ResourceScope": "resource.scope",
    "ResourceType": "resource.type",
    "ResourceValue": "resource.value",
    "ZoneID": "zone.id",
    "ZoneName": "zone.name",
}
DATASETS = {"audit_logs": V1, "audit_logs_v2": V2}
"""Dataset -> its fields, each with its path in the API's record."""
_OBJECTS = frozenset({"Metadata", "ActorTokenDetails", "Raw", "ResourceRequest", "ResourceResponse",
                      "ResourceValue"})  # fmt: skip
_TIMES = frozenset({"When", "ActionTimestamp"})


class _Output(msgspec.Struct, frozen=True):
    field_names: list[str] | None = None
    timestamp_format: Stamp = "unixnano"
    output_type: Literal["ndjson"] = "ndjson"


class _JobSpec(msgspec.Struct, frozen=True):
    """A job as the client configures it."""

    dataset: str | None = None
    destination_conf: str | None = None
    name: str | None = None
    enabled: bool | None = None
    output_options: _Output | None = None
    max_upload_bytes: int | None = None
    max_upload_records: int | None = None


@dataclass(slots=True, kw_only=True)
class _Job:
    id: int
    dataset: str
    spec: _JobSpec
    follower: Follower
    last_complete: datetime | None = None
    last_error: datetime | None = None
    error_message: str | None = None
    subscription: Subscription | None = None

    @property
    def output(self) -> _Output:
        return self.spec.output_options or _Output()

    @property
    def fields(self) -> Sequence[str]:
        return self.output.field_names or tuple(DATASETS[self.dataset])


@dataclass(slots=True, kw_only=True)
class _Jobs:
    site: Site
    found: dict[int, _Job] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(184_770))


class _Refused(Exception):
    """An API error; the arguments are status, code and message."""


def routes(site: Site, admit: Admit, succeed: Succeed, refuse: Refuse) -> Sequence[BaseRoute]:
    jobs = _Jobs(site=site)

    def route(path: str, **acts: Callable[[_Jobs, Request, bytes], Any]) -> Route:
        async def answer(request: Request) -> Response:
            if refused := admit(request):
                return refused
            return await run_in_threadpool(act, request, await request.body())

        def act(request: Request, body: bytes) -> Response:
            try:
                found = acts[request.method](jobs, request, body)
                return succeed(msgspec.json.encode(found), None)
            except _Refused as refused:
                return refuse(*refused.args)

        return Route(f"/client/v4/accounts/{{account}}/logpush{path}", answer, methods=[*acts])

    return [
        route("/jobs", GET=_list, POST=_create),
        route("/jobs/{job}", GET=_get, PUT=_update, DELETE=_delete),
        route("/datasets/{dataset}/fields", GET=_fields),
        route("/datasets/{dataset}/jobs", GET=_list),
        route("/ownership", POST=_ownership),
        route("/validate/destination", POST=_validate),
    ]


def _list(jobs: _Jobs, request: Request, _body: bytes) -> Any:
    dataset = request.path_params.get("dataset")
    return [_as_json(job) for job in jobs.found.values() if dataset in (None, job.dataset)]


def _create(jobs: _Jobs, _request: Request, body: bytes) -> Any:
    """Create a job, once its test upload succeeds."""
    spec = _read(body)
    if spec.dataset not in DATASETS:
        raise _Refused(400, 1002, f"creating a new job: unknown dataset: {spec.dataset}")
    _check_fields(spec, spec.dataset)
    _upload_test(jobs.site, spec.destination_conf)
    job = _Job(
        id=next(jobs.numbers),
        dataset=spec.dataset,
        spec=spec,
        follower=jobs.site.follower(spec.dataset),
    )
    job.subscription = Subscription(
        kind="cloudflare",
        fresh=lambda: _deliveries(jobs.site, job),
        patience=_PATIENCE,
        every=_EVERY,
        ended=lambda attempt, _delivery: _record_attempt(job, attempt, jobs.site.clock()),
    )
    jobs.found[job.id] = job
    jobs.site.courier.subscribe(job.subscription)
    return _as_json(job)


def _get(jobs: _Jobs, request: Request, _body: bytes) -> Any:
    return _as_json(_job(jobs, request))


def _update(jobs: _Jobs, request: Request, body: bytes) -> Any:
    """Change the given members of a job; the others stay."""
    job, spec = _job(jobs, request), _read(body)
    changes = {
        name: value for name, value in msgspec.structs.asdict(spec).items() if value is not None
    }
    merged = msgspec.structs.replace(job.spec, **{**changes, "dataset": job.dataset})
    _check_fields(merged, job.dataset)
    if spec.destination_conf:
        _upload_test(jobs.site, spec.destination_conf)
    job.spec = merged
    return _as_json(job)


def _delete(jobs: _Jobs, request: Request, _body: bytes) -> Any:
    job = _job(jobs, request)
    del jobs.found[job.id]
    if job.subscription:
        jobs.site.courier.unsubscribe(job.subscription)
    return {"id": job.id}


def _fields(_jobs: _Jobs, request: Request, _body: bytes) -> Any:
    dataset = request.path_params["dataset"]
    if dataset not in DATASETS:
        raise _Refused(400, 1002, f"unknown dataset: {dataset}")
    return {name: "object" if name in _OBJECTS else "string" for name in DATASETS[dataset]}


def _ownership(_jobs: _Jobs, _request: Request, _body: bytes) -> Any:
    raise _Refused(400, 1002, "an HTTP destination has no ownership challenge")


def _validate(jobs: _Jobs, _request: Request, body: bytes) -> Any:
    try:
        _upload_test(jobs.site, _read(body).destination_conf)
    except _Refused as refused:
        return {"valid": False, "message": refused.args[2]}
    return {"valid": True, "message": ""}


def _read(body: bytes) -> _JobSpec:
    try:
        return msgspec.json.decode(body, type=_JobSpec)
    except msgspec.DecodeError as error:
        raise _Refused(400, 1002, f"error parsing request: {error}") from None


def _check_fields(spec: _JobSpec, dataset: str) -> None:
    names = (spec.output_options and spec.output_options.field_names) or []
    if unknown := [name for name in names if name not in DATASETS[dataset]]:
        raise _Refused(400, 1002, f"unknown field: {unknown[0]}")


def _job(jobs: _Jobs, request: Request) -> _Job:
    number = request.path_params["job"]
    if not number.isdecimal() or int(number) not in jobs.found:
        raise _Refused(404, 1002, f"job {number} not found")
    return jobs.found[int(number)]


def _target(destination: str) -> tuple[str, dict[str, str]]:
    """Return the URL and the headers of a destination; its header_* parameters are the headers."""
    parts = urlsplit(destination)
    query = parse_qsl(parts.query, keep_blank_values=True)
    headers = {k.removeprefix("header_"): v for k, v in query if k.startswith("header_")}
    rest = urlencode([(name, value) for name, value in query if not name.startswith("header_")])
    return urlunsplit(parts._replace(query=rest)), headers


def _upload_test(site: Site, destination: str | None) -> None:
    """Upload the test file. Raises _Refused."""
    address, headers = _target(destination or "")
    delivery = Delivery(
        kind="cloudflare", what="test", url=address, headers=_packed(headers), body=_TEST
    )
    failed = "error validating destination: error writing object: error uploading"
    try:
        pushes.check(address)
    except NotHere as error:
        raise _Refused(400, 1002, f"{failed}: {error}") from None
    answer = site.courier.send(delivery, _PATIENCE.timeout)
    if answer is None or not answer.is_success:
        raise _Refused(400, 1002, f"{failed}: {pushes.status_of(answer) or 'no answer'}")


def _packed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of an upload; the destination's header_* parameters take precedence."""
    return {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream", **headers}


def _deliveries(site: Site, job: _Job) -> Iterator[Delivery]:
    records = job.follower.news()
    if not job.spec.enabled:
        return  # a disabled job loses these records for good
    address, headers = _target(job.spec.destination_conf or "")
    for some in batches(records, job.spec.max_upload_records or _MOST_RECORDS):
        yield Delivery(
            kind="cloudflare",
            what="batch",
            url=address,
            headers=_packed(headers),
            body=gzip.compress(b"".join(_line(job, record) for record in some), mtime=0),
            carries=site.carried(job.dataset, some),
        )


def _line(job: _Job, record: Record) -> bytes:
    event = decoded(record.raw)
    paths = DATASETS[job.dataset]
    if job.dataset == "audit_logs_v2":
        event = _with_token(event)
    line = {name: _value(name, at(paths[name])(event), job.output) for name in job.fields}
    return msgspec.json.encode(line) + b"\n"


def _with_token(event: Any) -> Any:
    """Return the event with the token's members in an object of their own."""
    actor = event.get("actor", {})
    token = {name: actor[f"token_{name}"] for name in ("id", "name") if f"token_{name}" in actor}
    return {**event, "actor": {**actor, "token": token}}


def _value(name: str, value: Any, output: _Output) -> Any:
    if name in _TIMES:
        return _stamp(str(value), output.timestamp_format)
    if name in _OBJECTS:
        return value or {}
    if name in ("NewValue", "OldValue"):
        return value
    return "" if value is None else value


def _stamp(time: str, form: Stamp) -> str | int:
    if form == "rfc3339":
        return time
    nanos = micros(datetime.fromisoformat(time)) * 1000
    return nanos if form == "unixnano" else nanos // 10**9


def _record_attempt(job: _Job, attempt: Attempt, now: datetime) -> None:
    if attempt.fate == "delivered":
        job.last_complete, job.error_message, job.last_error = now, None, None
    else:
        job.last_error = now
        job.error_message = f"error pushing: error uploading to https: {attempt.status}"


def _as_json(job: _Job) -> dict[str, Any]:
    spec = job.spec
    return {
        "id": job.id,
        "dataset": job.dataset,
        "name": spec.name or "",
        "enabled": bool(spec.enabled),
        "frequency": "high",
        "kind": "",
        "destination_conf": spec.destination_conf,
        "output_options": {
            "field_names": list(job.fields),
            "timestamp_format": job.output.timestamp_format,
            "output_type": "ndjson",
        },
        "max_upload_bytes": spec.max_upload_bytes,
        "max_upload_records": spec.max_upload_records,
        "last_complete": job.last_complete and iso(job.last_complete),
        "last_error": job.last_error and iso(job.last_error),
        "error_message": job.error_message,
    }
