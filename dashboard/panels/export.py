"""The Export menu: the result as a file, an evidence pack, and a coverage certificate."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import streamlit as st

from dashboard import exports, jobs, open_lake, session, state
from dashboard.as_search import as_search
from dashboard.exports import ExportRequest, File, Wish
from dashboard.jobs import Job
from dashboard.lake import Snapshot
from dashboard.queries import Query
from pipelines import visible
from pipelines.clock import utc_now
from pipelines.integrity import coverage_certificate, evidence
from pipelines.sdk.pages import Span

_JOB = "export_job"
_MOST = 100_000  # events of a pack, which is made in memory


def show(snapshot: Snapshot, query: Query, total: int) -> None:
    with st.popover("Export", icon=":material/download:", key="export", on_change="rerun") as menu:
        if menu.open:
            st.caption(
                f"All {total:,} events of this search, in all columns · lake v{snapshot.version}. "
                "Each link works once, in this browser."
            )
            _downloads(snapshot, query, total)
            _proofs(query, total)


def _downloads(snapshot: Snapshot, query: Query, total: int) -> None:
    """Show plain links, so that the browser itself saves the file, whatever its size."""
    wish = ExportRequest(
        lake=open_lake.configured(),
        snapshot=snapshot,
        query=query,
        who=open_lake.visitor(),
        address=state.search(session.view()),
        total=total,
    )
    st.html(" ".join(_link((wish, form), label) for form, label in exports.FORMS.items()))


def _link(wish: Wish, label: str) -> str:
    """Return a link; `label` is plain text of ours."""
    ticket = exports.TICKETS.issue(wish, open_lake.session(), utc_now())
    address = f"/{exports.FOLDER}/{ticket}.{wish[1]}"
    return f'<a class="download" href="{address}" download>{label}</a>'


def _proofs(query: Query, total: int) -> None:
    st.caption(
        "For an auditor: the events with their proofs, and how completely the time is covered. "
        "Both are signed and are checked offline."
    )
    job = _job()
    running = job is not None and job.running
    with st.container(horizontal=True, gap="xsmall"):
        st.button(
            "Evidence pack",
            icon=":material/verified:",
            key="make_pack",
            disabled=running or not 0 < total <= _MOST,
            help=None if total <= _MOST else f"At most {_MOST:,} events: narrow the search.",
            on_click=start_pack,
            args=(query, state.search(session.view())),
        )
        st.button(
            "Coverage certificate",
            icon=":material/workspace_premium:",
            key="make_certificate",
            disabled=running,
            on_click=_start_certificate,
            args=(query,),
        )
    progress()


def progress() -> None:
    """Show how far the file is that was started last, then a link to it."""
    if job := _job():
        st.fragment(_progress, run_every=1.0 if job.running else None)()


def _job() -> Job | None:
    job: Job | None = st.session_state.get(_JOB)
    return job


def _progress() -> None:
    job = _job()
    if job is None:
        return
    if job.running:
        st.session_state["export_job_seen"] = True
        st.progress(job.share, text=f"{job.name}: {job.share:.0%}")
        return
    if st.session_state.pop("export_job_seen", False):
        # The buttons outside this fragment wait for the job, too.
        session.rerun()
    if job.path is None:
        st.error("The file was not made.", icon=":material/error:")
        st.text(visible.text(job.error))
        return
    file = File(
        lake=open_lake.configured(),
        path=job.path,
        name=job.name,
        who=open_lake.visitor(),
        about=job.about,
        events=job.events,
    )
    form = job.path.suffix.removeprefix(".")
    if "export_ticket" not in st.session_state:
        st.session_state["export_ticket"] = _link((file, form), f"Download {job.name}")
    st.html(st.session_state["export_ticket"])


def _start(name: str, make: jobs.Make, about: str) -> None:
    st.session_state.pop("export_ticket", None)
    st.session_state[_JOB] = jobs.start(name, about, make)
    st.session_state["export_job_seen"] = True


def start_pack(query: Query, about: str) -> None:
    """Make an evidence pack; `about` describes it in `access`."""
    lake, now, question = open_lake.signing(), utc_now(), asked(query)
    only = open_lake.sight().integrations

    def make(path: Path, advance: evidence.Advance) -> int:
        return evidence.pack(lake, question, path, now, advance, only=only)["events"]

    _start(f"evidence-{_stamp(now)}.zip", make, about)


def asked(query: Query) -> evidence.Question:
    """Return the query as a pack contains it."""
    search = as_search(query)
    return evidence.Question(
        # Without a search, every event of the time.
        search=search,
        query="" if search else "true",
        since=query.since,
        until=query.until,
    )


def _start_certificate(query: Query) -> None:
    lake, now, only = open_lake.signing(), utc_now(), open_lake.sight().integrations

    def make(path: Path, advance: evidence.Advance) -> None:
        span = Span(since=query.since, until=query.until)
        path.write_bytes(coverage_certificate.make(lake, span, now, only))

    _start(f"coverage-{_stamp(now)}.txt", make, state.search(session.view()))


def _stamp(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}"
