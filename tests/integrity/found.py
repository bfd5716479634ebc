"""A signed lake with findings, written by the pipeline's own code."""

from datetime import timedelta

import polars as pl

from pipelines.integrity import signer
from pipelines.integrity.verifier import verify
from pipelines.integrity.verifier.job import FINDINGS, Job, WorkerPool
from pipelines.lake import commits, findings
from pipelines.lake.commits import Decision
from pipelines.schemas import FINDINGS as COLUMNS
from tests.integrity.worlds import NOON, Signed


def finding(seq, /, **values):
    time = NOON + timedelta(hours=seq)
    row = {
        "seq": seq,
        "finding_uid": f"{seq:064x}",
        "revision": 0,
        "status": "found",
        "provisional": False,
        "time": time,
        "date": time.date(),
        "since": time,
        "found_at": time + timedelta(seconds=3),
        "class_uid": 2004,
        "rule_id": "r1",
        "title": 'A "quoted" \u202e title\n\x00 ß',
        "level": "high",
        "tags": ["attack.t1098"],
        "entity": f"u{seq % 7}@example.com",
        "count": 1,
        "event_uids": [f"e{seq}"],
        "matched": [{"field": "a", "value": None}, {"field": "b", "value": "ü"}],
    }
    return row | values


class Found(Signed):
    """A lake whose table of findings is looked at."""

    @property
    def table(self):
        return self.folder / "lake" / FINDINGS

    @property
    def log(self):
        return self.folder / "lake" / "integrity" / FINDINGS

    def find(self, count, *, sign=True, **values):
        """Commit so many findings; return the number of all."""

        def decide(_handle, rows):
            made = [finding(seq, **values) for seq in range(rows, rows + count)]
            return Decision(pl.DataFrame(made, schema=COLUMNS), rows + count)

        app = findings.LOG.app
        fresh = commits.write(self.lake, findings.FINDINGS, app, decide, {}).frame
        total = fresh["seq"][-1] + 1
        if sign:
            signer.sign(self.lake, findings.LOG, total, NOON, fresh)
        return total

    def verify(self, **options):
        case = Job(place=self.place, table=FINDINGS, **options)
        with WorkerPool(1) as crew:
            return verify.verify(case, crew)
