"""Schemas of the lake's tables, with one comment per column.

`raw` contains the vendor's record, and when and where it landed; `events` contains the mapped
columns and can be derived again from raw at any time.
"""

from __future__ import annotations

import polars as pl

Timestamp = pl.Datetime("us", "UTC")

RAW: dict[str, pl.DataType] = {
    "event_id": pl.String(),  # the vendor's identity of the record
    "time": Timestamp,  # when it happened, by the vendor's clock
    "date": pl.Date(),  # UTC day of `time`; the partition
    "ingested_at": Timestamp,  # when it landed here
    "via": pl.String(),  # "poll", "webhook" or "backfill"
    "seq": pl.Int64(),  # place in this table, from 0, without gaps
    "raw": pl.String(),  # the vendor's record, byte for byte
    "raw_sha256": pl.String(),  # SHA-256 of those bytes, lower-case hex
}

TARGET = pl.Struct({"id": pl.String(), "name": pl.String(), "type": pl.String()})

EVENTS: dict[str, pl.DataType] = {
    "event_uid": pl.String(),  # integration:stream:event_id, and #n where a record holds several
    "time": Timestamp,  # when it happened
    "date": pl.Date(),  # UTC day of `time`; the partition
    "ingested_at": Timestamp,  # when its record landed in raw
    "integration": pl.String(),  # the instance's name in auditlake.toml
    "kind": pl.String(),  # the service: okta, google_workspace, ...
    "stream": pl.String(),  # the service's log it came from
    "event_id": pl.String(),  # the vendor's identity of the record
    "seq": pl.Int64(),  # the record's row in raw/<integration>/<stream>
    "activity_type": pl.String(),  # OCSF class: "Authentication"
    "action_type": pl.String(),  # OCSF activity: "Logon"
    "action": pl.String(),  # the vendor's own name of the event, verbatim
    "class_uid": pl.Int32(),  # OCSF 1.8 class
    "activity_id": pl.Int32(),  # OCSF 1.8 activity in that class
    "actor_id": pl.String(),  # who did it: the vendor's id
    "actor_name": pl.String(),  # who did it: a name people know
    "actor_email": pl.String(),  # who did it: lower-case; the same person across vendors
    "actor_type": pl.String(),  # user, service, api_key, application, system, anonymous
    "target_id": pl.String(),  # whom or what it was done to: the first meaningful target
    "target_name": pl.String(),  # a name people know it by
    "target_type": pl.String(),  # the vendor's word for the kind of thing
    "targets": pl.List(TARGET),  # all of them, in the vendor's order
    "outcome": pl.String(),  # "success", "failure" or "unknown"
    "outcome_reason": pl.String(),  # the vendor's words for why
    "source_ip": pl.String(),  # where from: one spelling, no port
    "user_agent": pl.String(),  # the program used, as it names itself
    "city": pl.String(),  # where from, by the vendor's geography
    "country": pl.String(),  # ISO 3166 alpha-2 where the vendor's text allows, else that text
    "severity": pl.String(),  # the vendor's word, lower-case
    "message": pl.String(),  # a sentence a person can read
    "session_id": pl.String(),  # the vendor's session of the actor
    "correlation_id": pl.String(),  # what ties events of one request or transaction together
    "mapping_version": pl.Int32(),  # which mapping made this row
}

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
    "outcome": pl.String(),  # "wanted", "complete", "failed" or "gone" (lost forever)
    "reason": pl.String(),  # why it failed or is gone
    "rows": pl.Int64(),  # rows of the raw table when this entry was written
    "cursor": pl.String(),  # the stream's cursor, where no raw commit contains it
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
    "since": Timestamp,  # in "files": the earliest `time` in it
    "until": Timestamp,  # in "files": the latest
    "held": Timestamp,  # in "files": the latest `ingested_at`
    **{name: EVENTS[name] for name in _COUNTED},  # in the other parts: values of events
    "n": pl.Int64(),  # how many events of the file have these values
    "field": pl.String(),  # in "texts": a searchable column of `events`
    "grams": pl.String(),  # in "texts": the n-grams of its texts, null if not known
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
