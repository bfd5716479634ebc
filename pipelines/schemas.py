"""The schemas of the lake's tables, and the description of each table and column.

`raw` contains the vendor's record, and when and where it landed; `events` contains the mapped
columns and can be derived again from raw at any time. The descriptions are stored with the tables,
so that every reader of Delta can show them.
"""

from __future__ import annotations

import polars as pl

Schema = dict[str, pl.DataType]
_Columns = dict[str, tuple[pl.DataType, str]]
Timestamp = pl.Datetime("us", "UTC")
_INTEGRATION = (pl.String(), "the instance's name in auditlake.toml")
_STREAM = (pl.String(), "the service's log it came from")


def _schema(columns: _Columns) -> Schema:
    return {name: dtype for name, (dtype, _) in columns.items()}


_RAW: _Columns = {
    "event_id": (
        pl.String(),
        "the vendor's identity of the record; of a later version with other content, with its hash",
    ),
    "time": (Timestamp, "when it happened, by the vendor's clock"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "ingested_at": (Timestamp, "when it landed here"),
    "via": (pl.String(), '"poll", "webhook", "backfill" or "replay"'),
    "seq": (pl.Int64(), "place in this table, from 0, without gaps"),
    "raw": (pl.String(), "the vendor's record, byte for byte"),
    "raw_sha256": (pl.String(), "SHA-256 of those bytes, lower-case hex"),
}
RAW = _schema(_RAW)

TARGET = pl.Struct({"id": pl.String(), "name": pl.String(), "type": pl.String()})

_EVENTS: _Columns = {
    "event_uid": (
        pl.String(),
        "integration:stream:event_id, plus #n where a record holds several events",
    ),
    "time": (Timestamp, "when it happened"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "ingested_at": (Timestamp, "when its record was written to raw"),
    "integration": _INTEGRATION,
    "kind": (pl.String(), "the service: okta, google_workspace, ..."),
    "stream": _STREAM,
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
EVENTS = _schema(_EVENTS)

_REJECTED: _Columns = {
    "integration": _INTEGRATION,
    "stream": _STREAM,
    "ingested_at": (Timestamp, "when it arrived here"),
    "reason": (pl.String(), "why it could not be read as a record"),
    "raw": (pl.Binary(), "the bytes as they came"),
    "raw_sha256": (pl.String(), "SHA-256 of those bytes, lower-case hex"),
}
REJECTED = _schema(_REJECTED)

_COVERAGE: _Columns = {
    "integration": (pl.String(), f"{_INTEGRATION[1]}; with `stream`, the partition"),
    "stream": _STREAM,
    "since": (Timestamp, "a span of event time, from here"),
    "until": (Timestamp, "up to, not including, here"),
    "asked_at": (Timestamp, "when it was fetched, by the clock passed to the fetch"),
    "outcome": (
        pl.String(),
        '"wanted", "complete", "failed", "gone" (lost forever), "expired" (no longer kept, so lost '
        'too) or "void" (cancels the row of the same times)',
    ),
    "reason": (pl.String(), "why it failed or is gone"),
    "rows": (pl.Int64(), "rows of the raw table when this entry was written"),
    "cursor": (pl.String(), "the stream's cursor, where no raw commit contains it"),
}
COVERAGE = _schema(_COVERAGE)

_STREAMS: _Columns = {
    "integration": _INTEGRATION,
    "stream": (pl.String(), "the service's log"),
    "kind": (pl.String(), "the service: okta, google_workspace, ..."),
    "title": (pl.String(), 'its name for people, such as "Google Workspace"'),
    "lag": (pl.Int64(), "how late an event may become visible, in microseconds"),
    "keeps": (pl.Int64(), "how far back the vendor keeps the log, in microseconds"),
    "recorded_at": (Timestamp, "when a poll first had these values"),
    "tenant": (pl.String(), "whose log it is: names and ids as JSON, null if not known"),
}
STREAMS = _schema(_STREAMS)

_ECHOES: _Columns = {
    "integration": _INTEGRATION,
    "stream": _STREAM,
    "event_id": (pl.String(), "the vendor's id of the record"),
    "time": (Timestamp, "when it happened"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "way": (
        pl.String(),
        '"webhook" or "poll": how it arrived, or was announced, another time',
    ),
    "seen_at": (Timestamp, "when it arrived that way"),
}
ECHOES = _schema(_ECHOES)

_COUNTED = (
    *("time", "integration", "kind", "stream", "activity_type", "action_type", "action"),
    *("outcome", "actor_email", "actor_name", "actor_id", "source_ip", "country"),
    *("target_name", "target_id"),
)
_ROLLUPS: _Columns = {
    "part": (pl.String(), '"files", or the columns that are counted together; the partition'),
    "file": (pl.Int64(), "the number of a data file of `events`, from 0"),
    "date": (pl.Date(), "its partition"),
    "path": (pl.String(), 'in "files": its place in `events`'),
    "since": (Timestamp, 'in "files" and "identities": the earliest `time` in it'),
    "until": (Timestamp, 'in "files" and "identities": the latest `time` in it'),
    "held": (Timestamp, 'in "files": the latest `ingested_at`'),
    **{name: (EVENTS[name], f"in the other parts: {name} of events") for name in _COUNTED},
    "code": (
        pl.Int64(),
        'in parts of columns: the number of these values in the file, from 0; in "codes": how many',
    ),
    "n": (pl.Int64(), "how many events of the file have these values"),
    "field": (pl.String(), 'in "texts": a searchable column of `events`; in "codes": a part'),
    "grams": (pl.String(), 'in "texts": the n-grams of its texts, null if not known'),
    "codes": (pl.Binary(), 'in "codes": for each event of the file, the `code` of its values'),
    "layout": (pl.Int32(), 'in "files": the layout of the file\'s aggregates'),
}
ROLLUPS = _schema(_ROLLUPS)

ID_FILTERS = tuple(f"ids_{number:02}" for number in range(32))
WORD_FILTERS = tuple(f"words_{number:02}" for number in range(16))
_TEXT_INDEX: _Columns = {
    "file": (pl.Int64(), "the number of the row, from 0"),
    "path": (pl.String(), "a data file of `events`: its place there"),
    "date": (pl.Date(), "its partition"),
    "layout": (pl.Int32(), "the layout of the filters"),
    **{
        name: (pl.Binary(), "a part of a Bloom filter of runs of characters in its texts")
        for name in (*ID_FILTERS, *WORD_FILTERS)
    },
}
TEXT_INDEX = _schema(_TEXT_INDEX)

_IDENTITIES: _Columns = {
    "integration": (pl.String(), "the instance whose account it is"),
    "identifier": (pl.String(), 'the kind of `value`: "user", "object", "passport", ...'),
    "value": (pl.String(), "the vendor's id of the account, as in `actor_id`"),
    "person": (pl.String(), "the e-mail address that records show with it"),
    "first_event": (Timestamp, "`time` of the earliest event that shows both"),
    "last_seen": (Timestamp, "`time` of the latest event that shows both"),
}
IDENTITIES = _schema(_IDENTITIES)

_RECONCILED: _Columns = {
    "integration": _INTEGRATION,
    "stream": _STREAM,
    "date": (pl.Date(), "UTC day of the events"),
    "polled": (pl.Int64(), "events that polling fetched or confirmed"),
    "pushed": (pl.Int64(), "events that were pushed or announced"),
    "both": (pl.Int64(), "events that arrived both ways"),
    "pushed_first": (pl.Int64(), "of those, how many arrived by push first"),
    "lead_ms": (pl.Int64(), "median lead of the push, where it was first"),
    "late_ms": (pl.Int64(), "median delay of the push, where it was second"),
    "unconfirmed": (pl.Int64(), "pushed, but not polled by the time they should have been"),
}
RECONCILED = _schema(_RECONCILED)

_ACCESS: _Columns = {
    "time": (Timestamp, "when it was requested"),
    "who": (pl.String(), "e-mail address of the sign-in, or local account"),
    "what": (pl.String(), '"searched", "opened", "looked up", "exported" or "refused"'),
    "about": (
        pl.String(),
        "the search's parameters, the uid of the event or finding, or the file format",
    ),
    "events": (pl.Int64(), "number of events"),
    "version": (pl.Int64(), "of the table `events` that was shown"),
}
ACCESS = _schema(_ACCESS)

_VIEWS: _Columns = {
    "time": (Timestamp, "when it was saved"),
    "who": (pl.String(), "who saved it"),
    "name": (pl.String(), "the newest row per name is valid"),
    "address": (pl.String(), 'the page\'s parameters; "" removes the view'),
}
VIEWS = _schema(_VIEWS)

MATCHED = pl.Struct({"field": pl.String(), "value": pl.String()})

_FINDINGS: _Columns = {
    "seq": (pl.Int64(), "place in this table, from 0, without gaps"),
    "finding_uid": (
        pl.String(),
        "SHA-256 of the rule's id and logic and of the event, or of the correlation's window and "
        "group; the same however often it is computed",
    ),
    "revision": (pl.Int32(), "from 0; the newest of a finding counts"),
    "status": (pl.String(), '"found", or "withdrawn" when late events undo a correlation'),
    "provisional": (pl.Boolean(), "whether the span of a correlation has a known gap"),
    "time": (Timestamp, "when the event, or the last of the events, happened"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "since": (Timestamp, "when the first of the events happened"),
    "found_at": (Timestamp, "when the rule was evaluated"),
    "class_uid": (pl.Int32(), "id of the OCSF class: 2004, Detection Finding"),
    "rule_id": (pl.String(), "the rule's id"),
    "logic_sha256": (pl.String(), "SHA-256 of the rule's logic, without its texts"),
    "ruleset": (pl.String(), "SHA-256 of all rules that were evaluated: see `rulesets`"),
    "title": (pl.String(), "the rule's title"),
    "level": (pl.String(), '"informational", "low", "medium", "high" or "critical"'),
    "author": (pl.String(), "who wrote the rule"),
    "url": (pl.String(), "where the rule is described: its first reference"),
    "license": (pl.String(), "the rule's licence"),
    "tags": (pl.List(pl.String()), 'such as "attack.t1098"'),
    "integration": (pl.String(), "the instance of the event; of a correlation, of the last one"),
    "kind": (pl.String(), "its service: okta, google_workspace, ..."),
    "stream": (pl.String(), "the service's log that the event came from"),
    "entity": (
        pl.String(),
        "its subject, for grouping: the person or actor, else the address, or the "
        "correlation's group",
    ),
    "source_ip": (pl.String(), "address of the client, of the last event"),
    "message": (pl.String(), "the sentence about the last event"),
    "count": (pl.Int64(), "how many events matched"),
    "event_uids": (pl.List(pl.String()), "their `event_uid` in `events`, at most 1,000"),
    "matched": (pl.List(MATCHED), "fields that the rule read, with their values in the last event"),
    "exception": (pl.String(), "id of the exception that applies, so that nobody is alerted"),
}
FINDINGS = _schema(_FINDINGS)

_HITS: _Columns = {
    "correlation": (pl.String(), "id of the correlation"),
    "logic_sha256": (pl.String(), "SHA-256 of the correlation's logic and that of its rules"),
    "rule_id": (pl.String(), "the rule of the correlation that matched"),
    "time": (Timestamp, "when the event happened"),
    "date": (pl.Date(), "UTC day of `time`; the partition"),
    "integration": _INTEGRATION,
    "kind": (pl.String(), "the service: okta, google_workspace, ..."),
    "stream": _STREAM,
    "event": (pl.String(), "`event_uid` without the mark of a later version"),
    "uid": (pl.String(), "`event_uid` of the event in `events`"),
    "group": (
        pl.List(pl.String()),
        "the values it is grouped by, in lower case; null for a person who is not known yet",
    ),
    "account": (pl.String(), "the account of a person who was not known at first"),
    "counted": (pl.String(), "the value of which different ones are counted, in lower case"),
    "source_ip": (pl.String(), "address of the client"),
    "message": (pl.String(), "the sentence about the event"),
}
HITS = _schema(_HITS)

_EVALUATIONS: _Columns = {
    "integration": _INTEGRATION,
    "stream": _STREAM,
    "since_seq": (pl.Int64(), "the first row of raw/<integration>/<stream> that was evaluated"),
    "until_seq": (pl.Int64(), "the row after the last one"),
    "ruleset": (pl.String(), "SHA-256 of all rules that were evaluated: see `rulesets`"),
    "rule_id": (pl.String(), "the rule, if this row is about one that failed; null: all others"),
    "rows": (pl.Int64(), "rows that were read; fewer than the range where rows were removed"),
    "hits": (pl.Int64(), "findings that were written"),
    "error": (pl.String(), "why the rule could not be evaluated; null if it was"),
    "seconds": (pl.Float64(), "CPU time that it took, shared by streams evaluated together"),
    "evaluated_at": (Timestamp, "when"),
}
EVALUATIONS = _schema(_EVALUATIONS)

_RULESETS: _Columns = {
    "ruleset": (pl.String(), "SHA-256 of `rules`"),
    "recorded_at": (Timestamp, "when it was first used"),
    "rules": (
        pl.String(),
        "JSON: id, logic, level and file of each rule that runs, and the overlay's values",
    ),
}
RULESETS = _schema(_RULESETS)

_TRIAGE: _Columns = {
    "time": (Timestamp, "when"),
    "who": (pl.String(), "e-mail address of the sign-in, or local account"),
    "finding_uid": (pl.String(), "of `findings`"),
    "state": (pl.String(), '"open", "assigned" or "closed"; the newest row per finding counts'),
    "assignee": (pl.String(), "who looks at it"),
    "reason": (
        pl.String(),
        'of a closed one: "true positive", "benign", "false positive" or "duplicate"',
    ),
    "note": (pl.String(), "free text"),
}
TRIAGE = _schema(_TRIAGE)

_EXCEPTIONS: _Columns = {
    "time": (Timestamp, "when it was recorded"),
    "who": (pl.String(), "who recorded it: the e-mail address of the sign-in, or local account"),
    "exception": (pl.String(), "its id; the newest row per id counts"),
    "rule_id": (pl.String(), "the rule it applies to"),
    "fields": (
        pl.List(MATCHED),
        "a finding is excepted if all of these hold; a field is a column of `findings` or `events`",
    ),
    "owner": (pl.String(), "who answers for it"),
    "reason": (pl.String(), "why"),
    "expires": (Timestamp, "events from this time on are not excepted; in the past: revoked"),
}
EXCEPTIONS = _schema(_EXCEPTIONS)

_DELIVERIES: _Columns = {
    "seq": (pl.Int64(), "place in this table, from 0, without gaps"),
    "time": (Timestamp, "when this row was written"),
    "delivery": (
        pl.String(),
        "SHA-256 of the receiver and of the subject; the key for its deduplication",
    ),
    "receiver": (pl.String(), "its name in auditlake.toml"),
    "about": (pl.String(), '"findings", "digest" or "health"'),
    "revision": (pl.Int32(), "from 0; grows with each change of the message"),
    "subjects": (
        pl.List(pl.String()),
        "the `finding_uid`s, or the name of the fault; none once it is resolved",
    ),
    "topic": (pl.String(), "SHA-256 of rule and entity, for grouping; the day of a digest"),
    "state": (
        pl.String(),
        '"queued", "claimed", "sent", "failed" (will be retried), "dead" (will not), "held" '
        '(quiet hours, throttled, digest) or "dropped" (withdrawn before it was sent); the newest '
        "row per delivery and revision counts, and the newest revision of a delivery",
    ),
    "attempt": (pl.Int32(), "how often it has been tried"),
    "next_at": (Timestamp, "before this time it is not tried again"),
    "receipt": (pl.String(), "the receiver's answer, without secrets: a status, an id"),
    "claimant": (pl.String(), "the process that claimed it"),
    "payload": (
        pl.String(),
        "JSON: the message, before it is put in the receiver's form; null in rows about sending",
    ),
}
DELIVERIES = _schema(_DELIVERIES)

DESCRIPTIONS: dict[str, dict[str, str]] = {
    table: {name: description for name, (_, description) in columns.items()}
    for table, columns in {
        "raw": _RAW,
        "events": _EVENTS,
        "rejected": _REJECTED,
        "coverage": _COVERAGE,
        "streams": _STREAMS,
        "echoes": _ECHOES,
        "rollups": _ROLLUPS,
        "identities": _IDENTITIES,
        "text_index": _TEXT_INDEX,
        "reconciliation": _RECONCILED,
        "access": _ACCESS,
        "views": _VIEWS,
        "findings": _FINDINGS,
        "hits": _HITS,
        "evaluations": _EVALUATIONS,
        "rulesets": _RULESETS,
        "triage": _TRIAGE,
        "exceptions": _EXCEPTIONS,
        "deliveries": _DELIVERIES,
    }.items()
}
"""Description of each column, by table; all tables below raw/ have the same columns."""
MEANINGS = DESCRIPTIONS["events"]
"""Those of `events`, which docs/columns.md shows."""


def descriptions(table: str) -> dict[str, str]:
    """Return the description of each column of a table, such as raw/okta/system_log."""
    return DESCRIPTIONS.get(table.partition("/")[0], {})
