"""Bounds for Dagster's home directory, which Dagster itself lets grow.

Dagster keeps runs for ever, in one file each; deleting a run empties the file but leaves it. Events
without a run and the verdicts of checks are never deleted either. SQLite reuses the space of
deleted rows, so its files stay as large as they have been at most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy as sql
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable, SnapshotsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage

_RUNLESS = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How much of its history Dagster keeps."""

    age: timedelta = timedelta(days=7)
    """The age of successful and canceled runs, and of events without a run."""
    runs: int = 2000
    failed_age: timedelta = timedelta(days=30)
    failed_runs: int = 500
    events: int = 20_000
    """Events without a run."""
    verdicts: int = 100
    """Verdicts of each check."""
    skipped: timedelta = timedelta(hours=6)
    """The age of sensor ticks that requested no run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    runs: int
    events: int
    verdicts: int


def forget(instance: dg.DagsterInstance, now: datetime, kept: Kept) -> Forgotten:
    """Delete old history, but never the last verdict of a check, and return the number of rows."""
    runs = list(_old_runs(instance, now, kept))
    _delete_runs(instance, runs)
    # An instance for tests has no storage of schedules.
    for state in instance.all_instigator_state() if instance.schedule_storage else ():
        instance.purge_ticks(
            state.instigator_origin_id,
            state.selector_id,
            before=(now - kept.skipped).timestamp(),
            tick_statuses=[TickStatus.SKIPPED],
        )
    _delete_snapshots(instance)
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return Forgotten(runs=len(runs), events=0, verdicts=0)
    # In SQLite, Dagster writes these events to two files.
    if isinstance(storage, SqliteEventLogStorage):
        with storage.run_connection(_RUNLESS) as shard:
            _delete_events(shard, now - kept.age, kept.events)
    with storage.index_connection() as index:
        events = _delete_events(index, now - kept.age, kept.events)
        verdicts = _delete_verdicts(index, kept.verdicts)
    return Forgotten(runs=len(runs), events=events, verdicts=verdicts)


def _old_runs(instance: dg.DagsterInstance, now: datetime, kept: Kept) -> Iterator[str]:
    """Yield the ids of finished runs that are too old or too many."""
    done = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED]
    yield from _beyond(instance, done, now - kept.age, kept.runs)
    failed = [dg.DagsterRunStatus.FAILURE]
    yield from _beyond(instance, failed, now - kept.failed_age, kept.failed_runs)


def _beyond(
    instance: dg.DagsterInstance,
    statuses: Sequence[dg.DagsterRunStatus],
    before: datetime,
    limit: int,
) -> Iterator[str]:
    young = dg.RunsFilter(statuses=statuses, created_after=before)
    keep = set(instance.get_run_ids(young, limit=limit))
    for run_id in instance.get_run_ids(dg.RunsFilter(statuses=statuses)):
        if run_id not in keep:
            yield run_id


def _delete_runs(instance: dg.DagsterInstance, runs: Sequence[str]) -> None:
    events, rows = instance.event_log_storage, instance.run_storage
    if isinstance(events, SqliteEventLogStorage) and isinstance(rows, SqliteRunStorage):
        # Dagster's own way opens the file of each run, and flushes the disk several times per run.
        for some in _chunks(runs):
            with rows.connect() as connection:
                for table in (RunTagsTable, RunsTable):
                    connection.execute(table.delete().where(table.c.run_id.in_(some)))
            with events.index_connection() as index:
                _delete_where(index, SqlEventLogStorageTable.c.run_id.in_(some))
        for run_id in runs:
            path = Path(events.path_for_shard(run_id))
            for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
                file.unlink(missing_ok=True)
    else:
        for run_id in runs:
            instance.delete_run(run_id)
    for run_id in runs:
        instance.compute_log_manager.delete_logs(prefix=[run_id])


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield parts that are short enough for the parameters of a statement."""
    return (ids[first : first + 500] for first in range(0, len(ids), 500))


def _delete_where(connection: Any, condition: Any) -> int:
    """Delete these events with their tags."""
    tags, gone = AssetEventTagsTable, sql.select(SqlEventLogStorageTable.c.id).where(condition)
    connection.execute(tags.delete().where(tags.c.event_id.in_(gone)))
    return int(connection.execute(SqlEventLogStorageTable.delete().where(condition)).rowcount)


def _delete_snapshots(instance: dg.DagsterInstance) -> None:
    """Delete the snapshots of jobs and plans that no run refers to: one per subset of streams."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        return
    snapshot_id = SnapshotsTable.c.snapshot_id
    # Read before the runs, so that those of a new run are left alone.
    with storage.connect() as connection:
        found = set(connection.execute(sql.select(snapshot_id)).scalars())
    runs = instance.get_runs()
    jobs = {run.job_snapshot_id for run in runs if run.job_snapshot_id}
    lineages = (instance.get_job_snapshot(job).lineage_snapshot for job in jobs & found)
    parents = {lineage.parent_snapshot_id for lineage in lineages if lineage}
    used = jobs | parents | {run.execution_plan_snapshot_id for run in runs}
    with storage.connect() as connection:
        for gone in _chunks(sorted(found - used)):
            taken = sql.select(RunsTable.c.snapshot_id).where(RunsTable.c.snapshot_id.in_(gone))
            connection.execute(
                SnapshotsTable.delete().where(snapshot_id.in_(gone), snapshot_id.not_in(taken))
            )


def _delete_events(connection: Any, before: datetime, limit: int) -> int:
    """Delete the events without a run that are too old or too many."""
    table = SqlEventLogStorageTable.c
    mine = table.run_id == _RUNLESS
    newest = sql.select(table.id).where(mine).order_by(table.id.desc()).limit(1).offset(limit - 1)
    first = connection.execute(newest).scalar()
    old = sql.or_(table.timestamp < before.replace(tzinfo=None), table.id < (first or 0))
    return _delete_where(connection, sql.and_(mine, old))


def _delete_verdicts(connection: Any, limit: int) -> int:
    """Delete all but the newest verdicts of each check."""
    table = AssetCheckExecutionsTable.c
    check = (table.asset_key, table.check_name)
    place = sql.func.row_number().over(partition_by=check, order_by=table.id.desc())
    placed = sql.select(table.id, place.label("place")).subquery()
    evaluated = table.execution_status != AssetCheckExecutionRecordStatus.PLANNED.value
    last = sql.select(sql.func.max(table.id)).where(evaluated).group_by(*check)
    gone = AssetCheckExecutionsTable.delete().where(
        table.id.in_(sql.select(placed.c.id).where(placed.c.place > limit)),
        table.id.not_in(last),
    )
    return int(connection.execute(gone).rowcount)
