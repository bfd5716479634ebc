"""The tables of fields: sound, about streams that exist, and as forgiving as rules are careless."""

import csv
from pathlib import Path as File

import pytest

from pipelines import registry
from pipelines.detections import aliases
from pipelines.detections.aliases import LogSource, log_source
from pipelines.detections.paths import KINDS, Path

FOLDER = File(aliases.__file__).parent / "aliases"
STREAMS = {
    f"{kind}/{stream.name}"
    for kind, one in registry.kinds().items()
    for stream in one.streams(None)
}
SOURCES = list(csv.DictReader((FOLDER / "logsources.csv").open()))


def source(product, service):
    found = log_source(product, service, None)
    assert isinstance(found, LogSource), found
    return found


def test_every_row_of_a_table_is_a_path_of_a_known_kind():
    for table in aliases.tables():
        for field, paths in table.fields.items():
            for path in paths:
                if path.kind == "like":
                    assert aliases.table(path.text).fields
                elif path.kind != "same":
                    assert path.kind in KINDS, (table.name, field)
                    assert path.kind == "constant" or path.steps or not path.text
                assert field.endswith("*") == ("*" in path.text or path.kind in ("same", "like"))


def test_every_stream_exists_and_every_stream_has_a_log_source():
    named = {stream for row in SOURCES for stream in row["streams"].split()}
    assert {stream for stream in named if "*" not in stream} <= STREAMS
    assert all(row["refused"] or (FOLDER / f"{row['table']}.csv").is_file() for row in SOURCES)
    for stream in STREAMS:
        kind, _, name = stream.partition("/")
        assert stream in named or source(kind, name).streams == (stream,)


def test_fields_are_found_in_any_case():
    audits = source("azure", "auditlogs").table
    one = audits.paths("operationname")
    assert one == audits.paths("OperationName") == audits.paths("properties.operationName")
    assert one == (Path("activityDisplayName", "trimmed"),)


def test_the_rest_of_an_open_ended_field_is_taken_as_it_is():
    okta = source("okta", "okta").table
    assert okta.paths("debugContext.debugData.someThing") == (
        Path("debugContext.debugData.someThing"),
    )
    assert okta.paths("debugcontext.debugdata.requesturi") == (
        Path("debugContext.debugData.requestUri"),
    )
    assert okta.paths("nothing.of.it") == okta.paths("actor.") == okta.paths("actor.a{b=c}") == ()
    assert okta.paths("actor." + "a." * 100 + "b") == ()


def test_a_table_may_refer_to_another_one():
    admin = source("gcp", "google_workspace.admin")
    assert admin.each == "events"
    assert admin.table.paths("parameters.ROLE_NAME") == (
        Path("events.parameters{name=ROLE_NAME}", "members"),
    )
    assert source("gcp", "google_workspace.drive").streams == ("google_workspace/drive",)


def test_rules_over_events_have_its_columns():
    over = source("auditlake", "okta")
    assert (over.streams, over.kind) == (("events",), "okta")
    assert over.table.paths("Actor_Email") == (Path("actor_email"),)
    assert over.table.paths("targets.name") == (Path("targets.name"),)
    assert over.table.paths("targets") == over.table.paths("no_column") == ()


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        (("azure", "activitylogs", None), "no stream carries the activity log"),
        (("aws", "cloudtrail", None), "no stream carries the log source aws/cloudtrail"),
        (("okta", None, "process_creation"), "no stream carries"),
        ((None, None, "webserver"), "no stream carries"),
    ],
)
def test_a_log_that_no_stream_carries_is_refused(named, reason):
    assert log_source(*named).startswith(reason)
