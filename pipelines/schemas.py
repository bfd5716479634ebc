"""The schemas of the lake's tables, and the meaning of each column.

`raw` contains the vendor's record, and when and where it landed; `events` contains the mapped
columns and can be derived again from raw at any time.
"""

from __future__ import annotations

import polars as pl

Timestamp = pl.Datetime("us", "UTC")

RAW: dict[str, pl.DataType] = {
    # The vendor's identity of the record; of a later version with other content, with its hash.
    "event_id": pl.String(),
    "time": Timestamp,  # when it happened, by the vendor's clock
    "date": pl.Date(),  # UTC day of `time`; the partition
    "ingested_at": Timestamp,  # when it landed here
    "via": pl.String(),  # "poll", "webhook", "backfill" or "replay"
    "seq": pl.Int64(),  # place in this table, from 0, without gaps
    "raw": pl.String(),  # the vendor's record, byte for byte
    "raw_sha256": pl.String(),  # SHA-256 of those bytes, lower-case hex
}

TARGET = pl.Struct({"id": pl.String(), "name": pl.String(), "type": pl.String()})

_EVENT_COLUMNS: dict[str, tuple[pl.DataType, str]] = {
    "event_uid": (
        pl.String(),
        "integration:stream:event_id, plus #n where a record holds several events",
    ),
    "time": (Timestamp, "when it happened"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "ingested_at": (Timestamp, "when its record was written to raw"),
    "integration": (pl.String(), "the instance's name in auditlake.toml"),
    "kind": (pl.String(), "the service: okta, google_workspace, ..."),
    "stream": (pl.String(), "the service's log it came from"),
    "event_id": (
        pl.String(),
        "the vendor's id of the record, plus ~version: and a hash where another content came first",
    ),
    "seq": (pl.Int64(), "the record's row number in raw/<integration>/<stream>"),
    "activity_type": (pl.String(), 'OCSF class, such as "Authentication"'),
    "action_type": (pl.String(), 'OCSF activity, such as "Logon"'),
    "action": (pl.String(), "the vendor's own name of the event, verbatim"),
    "class_uid": (pl.Int32(), "id of the OCSF 1.8 class"),
    "activity_id": (pl.Int32(), "id of the OCSF 1.8 activity in that class"),
    "actor_id": (pl.String(), "who did it: the vendor's id"),
    "actor_name": (pl.String(), "who did it: a name people know"),
    "actor_email": (pl.String(), "who did it: lower-case; the same person across vendors"),
    "actor_type": (pl.String(), "user, service, api_key, application, system, anonymous"),
    "target_id": (pl.String(), "the object or person acted on: the first meaningful target"),
    "target_name": (pl.String(), "a name people know it by"),
    "target_type": (pl.String(), "the vendor's word for the type of target"),
    "targets": (pl.List(TARGET), "all targets, in the vendor's order"),
    "outcome": (pl.String(), '"success", "failure" or "unknown"'),
    "outcome_reason": (pl.String(), "the reason for the outcome, in the vendor's words"),
    "source_ip": (pl.String(), "address of the client: normalised, without port"),
    "user_agent": (pl.String(), "the client program, as it identifies itself"),
    "city": (pl.String(), "city of the client, by the vendor's geolocation"),
    "country": (pl.String(), "ISO 3166 alpha-2 where the vendor's text allows, else that text"),
    "severity": (pl.String(), "the vendor's word, lower-case"),
    "message": (pl.String(), "one human-readable sentence"),
    "session_id": (pl.String(), "the vendor's id of the actor's session"),
    "correlation_id": (pl.String(), "shared by the events of one request or transaction"),
    "mapping_version": (pl.Int32(), "version of the mapping that produced this row"),
}
"""Type and meaning of each column of `events`; docs/columns.md shows both."""
EVENTS: dict[str, pl.DataType] = {name: dtype for name, (dtype, _) in _EVENT_COLUMNS.items()}
MEANINGS: dict[str, str] = {name: meaning for name, (_, meaning) in _EVENT_COLUMNS.items()}

REJECTED: dict[str, pl.DataType] = {
    "integration": pl.String(),
    "stream": pl.String(),
    "ingested_at": Timestamp,
    "reason": pl.String(),  # why it could not be read as a record
    "raw": pl.Binary(),  # the bytes as they came
    "raw_sha256": pl.String(),  # SHA-256 of those bytes, lower-case hex
}

COVERAGE: dict[str, pl.DataType] = {
    "integration": pl.String(),  # with `stream`, the partition
    "stream": pl.String(),
    "since": Timestamp,  # a span of event time, from here ...
    "until": Timestamp,  # ... up to, not including, here
    "asked_at": Timestamp,  # when it was fetched, by the clock passed to the fetch
    # "wanted", "complete", "failed", "gone" (lost forever), "expired" (no longer kept, so lost too)
    # or "void" (cancels the row of the same times)
    "outcome": pl.String(),
    "reason": pl.String(),  # why it failed or is gone
    "rows": pl.Int64(),  # rows of the raw table when this entry was written
    "cursor": pl.String(),  # the stream's cursor, where no raw commit contains it
}

STREAMS: dict[str, pl.DataType] = {
    "integration": pl.String(),  # the instance's name in auditlake.toml
    "stream": pl.String(),
    "kind": pl.String(),  # the service: okta, google_workspace, ...
    "title": pl.String(),  # its name for people, such as "Google Workspace"
    "lag": pl.Int64(),  # how late an event may become visible, in microseconds
    "keeps": pl.Int64(),  # how far back the vendor keeps the log, in microseconds
    "recorded_at": Timestamp,  # when a poll first had these values
    "tenant": pl.String(),  # whose log it is: names and ids as JSON, null if not known
}

ECHOES: dict[str, pl.DataType] = {
    "integration": pl.String(),
    "stream": pl.String(),
    "event_id": pl.String(),
    "time": Timestamp,  # when it happened
    "date": pl.Date(),  # UTC day of `time`; the partition
    "way": pl.String(),  # "webhook" or "poll": how it arrived, or was announced, another time
    "seen_at": Timestamp,  # when it arrived that way
}

_COUNTED = (
    *("time", "integration", "kind", "stream", "activity_type", "action_type", "action"),
    *("outcome", "actor_email", "actor_name", "actor_id", "source_ip", "country"),
    *("target_name", "target_id"),
)
ROLLUPS: dict[str, pl.DataType] = {
    "part": pl.String(),  # "files", or the columns that are counted together; the partition
    "file": pl.Int64(),  # the number of a data file of `events`, from 0
    "date": pl.Date(),  # its partition
    "path": pl.String(),  # in "files": its place in `events`
    "since": Timestamp,  # in "files" and "identities": the earliest `time` in it
    "until": Timestamp,  # in "files" and "identities": the latest
    "held": Timestamp,  # in "files": the latest `ingested_at`
    **{name: EVENTS[name] for name in _COUNTED},  # in the other parts: values of events
    "n": pl.Int64(),  # how many events of the file have these values
    "field": pl.String(),  # in "texts": a searchable column of `events`
    "grams": pl.String(),  # in "texts": the n-grams of its texts, null if not known
    "layout": pl.Int32(),  # in "files": the layout of the file's aggregates
}

IDENTITIES: dict[str, pl.DataType] = {
    "integration": pl.String(),  # the instance whose account it is
    "identifier": pl.String(),  # what `value` is: "user", "object", "passport", ...
    "value": pl.String(),  # the vendor's id of the account, as in `actor_id`
    "person": pl.String(),  # the e-mail address that records show with it
    "first_event": Timestamp,  # `time` of the earliest event that shows both ...
    "last_seen": Timestamp,  # ... and of the latest
}

RECONCILED: dict[str, pl.DataType] = {
    "integration": pl.String(),
    "stream": pl.String(),
    "date": pl.Date(),  # UTC day of the events
    "polled": pl.Int64(),  # events that polling fetched or confirmed
    "pushed": pl.Int64(),  # events that were pushed or announced
    "both": pl.Int64(),  # events that arrived both ways
    "pushed_first": pl.Int64(),  # of those, how many arrived by push first
    "lead_ms": pl.Int64(),  # median lead of the push, where it was first
    "late_ms": pl.Int64(),  # median delay of the push, where it was second
    "unconfirmed": pl.Int64(),  # pushed, but not polled by the time they should have been
}
