"""The log entries of findings."""

import hashlib
import json
from datetime import UTC, datetime

import polars as pl

from pipelines.integrity import finding_entries
from pipelines.schemas import FINDINGS
from tests.integrity.found import finding


def entry(**values):
    return finding_entries.entries(pl.DataFrame([finding(7, **values)], schema=FINDINGS))[0]


def test_an_entry_has_the_digest_of_all_columns_the_revision_and_the_uid():
    kind, digest, revision, uid = entry(revision=2).decode().split("\n")
    assert (kind, revision, uid) == ("auditlake/finding/1", "2", f"{7:064x}")
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    row = finding(7, revision=2)
    for name in ("time", "since", "found_at"):
        row[name] = int((row[name] - epoch).total_seconds() * 1e6)
    row["date"] = "2026-03-01"
    del row["seq"]
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == hashlib.sha256(text.encode()).hexdigest()


def test_every_column_counts():
    others = {
        pl.String(): "other",
        pl.Int64(): 99,
        pl.Int32(): 99,
        pl.Boolean(): True,
        pl.Date(): datetime(2020, 1, 1, tzinfo=UTC).date(),
    }
    plain = entry()
    for name, dtype in FINDINGS.items():
        if name == "seq":
            continue
        if dtype == pl.List(pl.String()):
            value = ["other"]
        elif isinstance(dtype, pl.List):
            value = [{"field": "a", "value": "null"}, {"field": "b", "value": "ü"}]
        elif isinstance(dtype, pl.Datetime):
            value = datetime(2020, 1, 1, tzinfo=UTC)
        else:
            value = others[dtype]
        assert entry(**{name: value}) != plain, name


def test_an_empty_list_and_a_missing_one_differ():
    assert len({entry(tags=[]), entry(tags=None), entry(tags=[None])}) == 3
