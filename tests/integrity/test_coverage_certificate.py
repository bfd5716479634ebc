"""Coverage certificates list every part of the time that is missing, and are signed."""

from datetime import timedelta

import pytest

from pipelines.errors import LakeError
from pipelines.integrity import coverage_certificate, keys
from pipelines.integrity.verifier import audit, proofs
from pipelines.lake.stream_state import Facts, History
from pipelines.lake.tables import Lake
from pipelines.sdk.pages import Gap, Span
from tests.integrity.worlds import NOON

DAY = timedelta(days=1)
SPAN = Span(since=NOON - 3 * DAY, until=NOON - DAY)


def lines(**histories):
    known = {(name, "log"): one for name, one in histories.items()}
    return list(coverage_certificate._lines(known, SPAN, NOON))


def polled(*spans, **more):
    return History(
        facts=Facts(),
        asked=spans,
        final=spans,
        known=Span(since=SPAN.since - DAY, until=NOON),
        polled_at=NOON,
        **more,
    )


def test_a_stream_is_complete_only_if_its_whole_time_is():
    whole = Span(since=SPAN.since - DAY, until=NOON)
    half = Span(since=SPAN.since - DAY, until=NOON - 2 * DAY)
    found = lines(okta=polled(whole), cloudflare=polled(half), atlassian=History())
    assert "complete: 1 of 3 streams" in found
    assert "okta log: complete" in found
    (missing,) = [line for line in found if line.startswith("cloudflare")]
    assert f"missing {half.until.isoformat()} to {SPAN.until.isoformat()}: " in missing
    (never,) = [line for line in found if line.startswith("atlassian")]
    assert f"missing {SPAN.since.isoformat()} to {SPAN.until.isoformat()}: " in never


def test_what_may_still_change_is_not_complete():
    whole = Span(since=SPAN.since - DAY, until=NOON)
    history = History(facts=Facts(), asked=(whole,), final=(), known=whole, polled_at=NOON)
    assert [line.split()[2] for line in lines(okta=history)[4:]] == ["settling"]


def test_a_reason_cannot_forge_a_line():
    whole = Span(since=SPAN.since - DAY, until=NOON)
    reason = "lost\nokta log: complete"
    gone = Gap(span=Span(since=SPAN.since, until=SPAN.since + DAY), reason=reason)
    found = lines(okta=polled(whole, gone=(gone,)))
    assert "okta log: complete" not in found


def test_a_certificate_is_signed_with_the_keys_of_the_lake(signed):
    with pytest.raises(LakeError, match="nothing was polled"):
        coverage_certificate.make(signed.lake, SPAN, NOON, names=("none",))
    with pytest.raises(LakeError, match=r"integrity\.sign"):
        coverage_certificate.make(Lake(signed.lake.root), SPAN, NOON)


def test_the_signature_covers_every_line(signed, monkeypatch, tmp_path):
    known = {("okta", "log"): History()}
    monkeypatch.setattr(coverage_certificate, "_histories", lambda lake: known)
    file = tmp_path / "coverage.txt"
    file.write_bytes(coverage_certificate.make(signed.lake, SPAN, NOON))
    trusted = keys.trusted(signed.lake.integrity)
    shown = audit.check_file(str(file), trusted)
    assert shown[0] == audit.CERTIFICATE
    assert "complete: 0 of 1 streams" in shown
    assert shown[-1].startswith("signed by ")
    file.write_text(file.read_text().replace("0 of 1", "1 of 1"))
    with pytest.raises(proofs.Invalid):
        audit.check_file(str(file), trusted)
