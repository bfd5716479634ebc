"""The one clock of the project."""

from datetime import UTC, timedelta

from pipelines import clock


def test_both_forms_show_the_same_time_in_utc():
    before, now, after = clock.unix_time(), clock.utc_now(), clock.unix_time()
    assert now.tzinfo is UTC
    assert now.utcoffset() == timedelta(0)
    assert before - 1e-6 <= now.timestamp() <= after + 1e-6
