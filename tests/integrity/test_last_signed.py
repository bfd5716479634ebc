"""The local record of signed heads survives power cuts and is cut when it grows long."""

from pipelines.integrity import last_signed
from tests.integrity.worlds import LOG


def test_a_truncated_line_in_the_local_record_is_skipped(signed):
    (memory,) = (signed.place.memory / "signed").glob("*.ndjson")
    memory.write_bytes(memory.read_bytes() + b'{"origin": "aud')
    signed.land(*range(700, 730), day=3)
    assert signed.verify().ok
    assert last_signed.recall(signed.place.memory, LOG.table).size == 730
