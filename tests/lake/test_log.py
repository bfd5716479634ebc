"""The fences and the metadata of commits, on a disk and in an object store."""

import pytest

from pipelines.lake import handles, log, raw, tables
from tests.lake.batches import LOG, batch


@pytest.mark.parametrize("kept", [100, 4])
def test_fences_and_metadata_are_those_of_delta_rs(lake, monkeypatch, kept):
    monkeypatch.setattr(handles, "CHECKPOINT_EVERY", kept)
    for number in range(6):
        raw.append(lake, LOG, batch(number), f"c{number}")
    handle = tables.open_at(lake, LOG.table)
    assert [each["version"] for each in log.history(handle)] == [6, 5, 4, 3, 2, 1, 0]
    assert list(log.history(handle)) == handle.history()
    assert (log.fence(handle, LOG.app), log.fence(handle, "other")) == (6, 0)
