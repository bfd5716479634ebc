"""A signed lake with some thousand Okta records, and copies of it to work on."""

import hashlib
import pickle
import shutil

import polars as pl

from pipelines.engines import Engine
from pipelines.extraction.renormalise import History
from pipelines.lake import events, tables
from pipelines.sdk.contract import Source
from tests.integrity.worlds import LOG, OKTA, STREAM, Signed

SOURCE = Source(name="okta", integration=OKTA, settings=None)
SECRET = "hunter2-of-the-store"


def filled(folder, rows, per_day):
    """Return a world with so many records; each day is one commit."""
    world = Signed(folder)
    for day, first in enumerate(range(0, rows, per_day)):
        world.land(*range(first, min(first + per_day, rows)), day=day)
    return world


def copied(world, folder):
    shutil.copytree(world.folder, folder)
    return Signed(folder)


def history(world):
    return History(lake=world.lake, source=SOURCE, stream=STREAM)


def stored(world):
    return events.snapshot(world.lake, LOG)[0].collect().sort("seq", "event_uid")


def contents(world, table="events"):
    """Return the SHA-256 of each data file of a table's newest version."""
    uris = tables.open_table(world.lake, table).file_uris()
    return sorted(hashlib.sha256(open(uri, "rb").read()).hexdigest() for uri in uris)  # noqa: PTH123


class Posted(Engine):
    """Works in this process, on parts and results that were pickled on their way."""

    def __init__(self):
        self.sent = []

    def map(self, work, parts, rows):
        for part in parts:
            self.sent.append(pickle.dumps((work, part)))
            work_again, part_again = pickle.loads(self.sent[-1])  # noqa: S301
            self.sent.append(pickle.dumps(work_again(part_again)))
            yield pickle.loads(self.sent[-1])  # noqa: S301

    def close(self):
        pass


def without_a_secret(engine):
    assert engine.sent
    assert not any(SECRET.encode() in each for each in engine.sent)


def sorted_rows(world, table):
    rows = pl.read_delta(str(world.folder / "lake" / table))
    return rows.sort(pl.all(), nulls_last=True)
