"""Workers of an engine get the tasks of the verifier without the options of the store."""

from datetime import date

from pipelines.engines import InProcess
from pipelines.integrity.crew import EngineCrew
from pipelines.integrity.verifier.rows import Task
from pipelines.lake import workers
from pipelines.lake.tables import Lake

OPTIONS = {"aws_secret_access_key": "hunter2"}
TASK = Task(
    table="raw/okta/system_log",
    files=(),
    day_files=(),
    options=OPTIONS,
    day=date(2026, 3, 1),
    events=None,
    kind="okta",
    first=0,
    derived=0,
)


class Seen(InProcess):
    def __init__(self):
        self.parts = []

    def map(self, work, parts, rows):
        self.parts += parts
        yield from super().map(work, parts, rows)


def options(task):
    return task.options


def test_the_options_stay_here_and_a_worker_uses_its_own(monkeypatch):
    engine = Seen()
    (here,) = EngineCrew(engine, Lake("s3://bucket", OPTIONS)).map(options, [TASK], 1)
    assert here == OPTIONS
    assert "hunter2" not in repr(engine.parts)
    monkeypatch.setattr(workers, "lake", lambda _: Lake("s3://bucket", {"aws_region": "there"}))
    (there,) = EngineCrew(engine, Lake("s3://bucket", OPTIONS)).map(options, [TASK], 1)
    assert there == {"aws_region": "there"}


def test_other_tasks_are_passed_on():
    assert list(EngineCrew(InProcess(), Lake("/srv")).map(len, [b"a", b"bc"], 2)) == [1, 2]
