"""Names of assets, jobs and resources in Dagster, and the figures shown with them.

"Recent" means the last 14 days, as in `auditlake status`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from pipelines import schemas
from pipelines.clock import utc_now
from pipelines.extraction import service_clock
from pipelines.extraction.report import Report
from pipelines.lake import coverage, events, stream_state, streams, versions
from pipelines.lake.tables import Lake, StreamKey
from pipelines.sdk.contract import Source, Stream

Figures = dict[str, Any]
INTEGRATION = "auditlake/integration"
WHOLE = "auditlake/whole"
EVENTS = dg.AssetKey("events")
FINDINGS = dg.AssetKey("findings")


def key_of(log: StreamKey) -> dg.AssetKey:
    return dg.AssetKey(["raw", log.integration, log.stream])


def word(name: str) -> str:
    """Return `name` in the form Dagster requires of jobs, groups and sensors: without hyphens."""
    return name.replace("-", "__")


def op(log: StreamKey) -> str:
    return f"raw__{word(log.integration)}__{word(log.stream)}"


def client_key(source: Source) -> str:
    return f"client_of_{word(source.name)}"


def shape(lake: Lake, table: str, schema: Mapping[str, pl.DataType]) -> Figures:
    descriptions = schemas.descriptions(table)
    columns = [
        dg.TableColumn(name, type=str(dtype), description=descriptions[name])
        for name, dtype in schema.items()
    ]
    return {
        "dagster/uri": lake.uri(table),
        "dagster/column_schema": dg.TableSchema(columns=columns),
    }


def line(report: Report) -> str:
    back_to = f", back to {report.oldest:%Y-%m-%d}" if report.oldest else ""
    clock = service_clock.difference(report.clock_ahead)
    differs = f"; {clock}, the service's clock is used" if clock else ""
    return f"{report.stream}: {report.rows:,} new of {report.total:,}{back_to}{differs}"


def round_figures(report: Report) -> Figures:
    figures: Figures = {
        "rows added": report.rows,
        "events added": report.events,
        "duplicates": report.duplicates,
        "rejected": report.rejected,
        "requests": report.requests,
        "bytes added": report.bytes,
        "spans covered": len(report.covered),
        "gaps": len(report.gaps),
    }
    if report.covered:
        first = min(span.since for span in report.covered)
        last = max(span.until for span in report.covered)
        figures |= {"covered since": stamp(first), "covered until": stamp(last)}
    if clock := service_clock.difference(report.clock_ahead):
        figures["clock"] = clock
    figures |= {f"unreadable {column}": count for column, count in report.faults.items()}
    return figures | {f"seconds {step}": round(s, 3) for step, s in report.seconds.items()}


def state_figures(lake: Lake, source: Source, stream: Stream) -> Figures:
    """Return the state of a stream as `auditlake status` and the dashboard show it."""
    key, facts = StreamKey(source.name, stream.name), streams.facts_of(source, stream)
    history, behind = coverage.history(lake, key, facts), events.behind(lake, key)
    found = stream_state.summary(history, utc_now(), behind=behind)
    figures: Figures = {
        "state": found.state.name,
        "recent gaps": found.gaps,
        "lost ranges": found.lost,
    }
    if found.state.since:
        figures |= {"failing since": stamp(found.state.since), "failure": found.state.reason or ""}
    if found.polled_at:
        figures["last polled"] = stamp(found.polled_at)
    if found.share is not None:
        figures["recent coverage"] = found.share
    return figures


def table_figures(lake: Lake, name: str) -> Figures:
    table = versions.newest(lake, name)
    if table is None:
        return {}
    files = table.files()
    figures: Figures = {
        "dagster/row_count": int(files["num_records"].sum()),
        "table version": table.number,
        "table bytes": int(files["size_bytes"].sum()),
    }
    newest = greatest(files, "max.time")
    if newest:
        lag = (utc_now() - newest).total_seconds()
        figures |= {"newest event": stamp(newest), "lag in seconds": round(lag, 3)}
    return figures


def short(time: timedelta) -> str:
    """Return a duration in hours and minutes."""
    return f"{int(time.total_seconds() // 3600)} h {int(time.total_seconds() // 60) % 60} min"


def stamp(time: datetime) -> dg.TimestampMetadataValue:
    return dg.MetadataValue.timestamp(time)


def greatest(files: pl.DataFrame, column: str) -> datetime | None:
    found = files[column].max() if column in files.columns else None
    return found if isinstance(found, datetime) else None
