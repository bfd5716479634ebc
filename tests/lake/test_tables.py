"""Tables are opened, or the error is one line with advice."""

from pathlib import Path

import pytest

from pipelines.errors import LakeError
from pipelines.lake import raw
from pipelines.lake.tables import Lake
from tests.lake.batches import LOG, batch


def test_an_unusable_root_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(LakeError, match=r"lake\.root") as error:
        raw.append(Lake(str(tmp_path / "file")), LOG, batch("a"), "c")
    assert "\n" not in str(error.value)


def test_a_damaged_delta_log_is_reported_in_one_line(lake):
    raw.append(lake, LOG, batch("a"), "c")
    log = Path(lake.uri(LOG.table)) / "_delta_log"
    (log / f"{1:020}.json").write_text('{"add": {"path"')
    with pytest.raises(LakeError) as error:
        raw.position(lake, LOG)
    assert "\n" not in str(error.value)
