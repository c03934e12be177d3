"""Jobs as their users see them: submit, look, cancel, pause, resume. Only here states change."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, bindparam, cast, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from core.db import after_commit, is_postgresql, project_of
from core.errors import IllegalTransition, InvalidState, JobNotFound, LeaseLost
from core.events import NewEvent, append_events
from core.ids import new_id
from core.models import Attempt, Job
from core.resuming import lineage
from core.room import needs_of
from core.spec import JobSpec, ResolvedSpec
from core.states import TRANSITIONS, EventKind, JobStatus, Level
from core.webhooks import announce

Ring = Callable[[], None]
"""Tells idle workers to look for work. May be lost without harm."""
_ONE_JOB = select(Job).where(Job.id == bindparam("job"), Job.project_id == bindparam("project"))
"""Built once: that costs more than to ask it."""


def submit_job(
    session: Session,
    spec: JobSpec,
    resolved: ResolvedSpec,
    *,
    now: datetime,
    ring: Ring,
    project_id: str | None = None,
    retry_of: str | None = None,
) -> Job:
    """Put a checked request in the queue; workers are rung once it is committed.

    With `retry_of` it goes on from the newest checkpoint of that job, on the very same model.
    """
    first = session.get_one(Job, retry_of) if retry_of is not None else None
    project_id = project_id or project_of(session)
    job = Job(
        id=new_id("ftjob-"),
        project_id=project_id,
        status=JobStatus.QUEUED,
        spec=spec.as_sent(),
        training=resolved.training,
        model=spec.model,
        base_model=first.base_model if first else resolved.base_model,
        model_revision=first.model_revision if first else None,
        training_file=spec.training_file,
        validation_file=spec.validation_file,
        suffix=spec.suffix,
        retry_of=retry_of,
        seed=resolved.seed,
        labels=spec.metadata,
        priority=spec.priority,
        max_attempts=resolved.max_attempts,
        plan=resolved.plan,
        **needs_of(resolved.plan),
        created_at=now,
        queued_at=now,
    )
    created = NewEvent(
        kind=EventKind.STATE,
        message=f"Created fine-tuning job: {job.id}",
        data={"status": JobStatus.QUEUED},
    )
    warnings = [
        NewEvent(kind=EventKind.MESSAGE, level=Level.WARN, message=text)
        for text in resolved.warnings
    ]
    events = [created, *warnings]
    job.event_seq = len(events)
    session.add(job)
    # The events need the row, which nobody else sees before it is committed with them.
    session.flush()
    append_events(session, job.id, events, last_seq=job.event_seq, attempt=job.attempt, now=now)
    after_commit(session, ring)
    return job


def get_job(
    session: Session,
    job_id: str,
    *,
    project_id: str | None = None,
    lock: bool = False,
    param: str = "fine_tuning_job_id",
) -> Job:
    """The job with this id, or JobNotFound, which another project's job answers too.

    With `lock` nobody else moves the job until the transaction ends.
    """
    project_id = project_id or project_of(session)
    query = _ONE_JOB.with_for_update() if lock else _ONE_JOB
    job = session.scalar(query, {"job": job_id, "project": project_id})
    if job is None:
        raise JobNotFound(f"No such fine-tuning job: {job_id}", param=param)
    return job


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Which jobs are meant; what is left out leaves none out."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """All of these are in the metadata."""
    is_unlabelled: bool = False
    """There is no metadata."""
    statuses: Sequence[JobStatus] = ()
    name: str | None = None
    """The suffix, or the beginning of the id, whose own prefix may be left out."""
    search: str = ""
    """A part of id, suffix or model; beyond ASCII its case counts on SQLite."""

    def conditions(self, session: Session) -> Iterator[ColumnElement[bool]]:
        """On jobs."""
        if self.search:
            texts = (Job.id, Job.suffix, Job.base_model)
            yield or_(*(text.icontains(self.search, autoescape=True) for text in texts))
        if self.is_unlabelled:
            yield Job.labels.is_(None) | cast(Job.labels, Text).in_(["null", "{}"])
        if self.statuses:
            yield Job.status.in_(self.statuses)
        if self.name is not None:
            yield _is_named(self.name)
        for key, value in self.labels.items():
            yield _has_label(session, key, value)


ALL_JOBS = JobFilter()


def list_jobs(
    session: Session,
    *,
    after: str | None = None,
    limit: int = 20,
    only: JobFilter = ALL_JOBS,
    project_id: str | None = None,
) -> list[Job]:
    """The newest jobs first, older than the job `after`."""
    project_id = project_id or project_of(session)
    query = select(Job).where(Job.project_id == project_id, *only.conditions(session))
    if after is not None:
        last = get_job(session, after, project_id=project_id, param="after")
        query = query.where(tuple_(Job.created_at, Job.id) < (last.created_at, last.id))
    return list(session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)))


def _is_named(name: str) -> ColumnElement[bool]:
    beginnings = [Job.id.startswith(text, autoescape=True) for text in (name, f"ftjob-{name}")]
    return or_(Job.suffix == name, *beginnings)


def _has_label(session: Session, key: str, value: str) -> ColumnElement[bool]:
    if is_postgresql(session):
        matches: ColumnElement[bool] = Job.labels[key].as_string() == value
        return matches
    # SQLite's JSON paths find no key that is escaped in the text of the column.
    label = func.json_each(Job.labels).table_valued("key", "value")
    return select(label.c.key).where(label.c.key == key, label.c.value == value).exists()


def list_attempts(session: Session, job_id: str) -> list[Attempt]:
    """The attempts of a job, the first one first."""
    query = select(Attempt).where(Attempt.job_id == job_id).order_by(Attempt.number)
    return list(session.scalars(query))


def latest_attempts(session: Session, jobs: Iterable[Job]) -> dict[str, Attempt]:
    """The newest attempt of each job that has one, by the job's id."""
    started = {job.id: job.attempt for job in jobs if job.attempt > 0}
    pairs = list(started.items())
    query = select(Attempt).where(tuple_(Attempt.job_id, Attempt.number).in_(pairs))
    return {attempt.job_id: attempt for attempt in session.scalars(query)} if pairs else {}


def cancel_job(session: Session, job: Job, *, now: datetime, save: bool = False) -> None:
    """Stop the job for good: at once when nobody runs it, else at its next step boundary.

    With `save` the running attempt publishes one last checkpoint. Cancelling twice is harmless.
    """
    if job.status is JobStatus.CANCELLED or job.cancel_requested_at is not None:
        return
    if job.status.is_terminal:
        raise InvalidState(f"Job {job.id} has already {job.status}; it cannot be cancelled.")
    if job.status is not JobStatus.RUNNING:
        transition(session, job, JobStatus.CANCELLED, now=now, message="Job cancelled")
        return
    event = NewEvent(kind=EventKind.MESSAGE, message="Cancel requested")
    add_events(session, job, [event], now=now, cancel_requested_at=now, save_on_cancel=save)


def pause_job(session: Session, job: Job, *, now: datetime) -> None:
    """Hold the job back: a running one saves at its next step boundary and frees its device."""
    if job.status is JobStatus.PAUSED or job.pause_requested_at is not None:
        return
    if job.status is JobStatus.QUEUED:
        transition(session, job, JobStatus.PAUSED, now=now, message="Job paused")
        return
    if job.status is not JobStatus.RUNNING:
        raise InvalidState(f"Job {job.id} is {job.status}; only a queued or running job can pause.")
    event = NewEvent(kind=EventKind.MESSAGE, message="Pause requested")
    add_events(session, job, [event], now=now, pause_requested_at=now)


def resume_job(session: Session, job: Job, *, now: datetime, ring: Ring) -> None:
    """Queue a paused job again, or take back a pause that was asked for but not yet done."""
    if job.status is JobStatus.PAUSED:
        values: dict[str, Any] = {"queued_at": now, "not_before_at": None, **needs_of(job.plan)}
        transition(session, job, JobStatus.QUEUED, now=now, message="Job resumed", **values)
        after_commit(session, ring)
        return
    if job.status is JobStatus.RUNNING and job.pause_requested_at is not None:
        event = NewEvent(kind=EventKind.MESSAGE, message="Pause withdrawn")
        add_events(session, job, [event], now=now, pause_requested_at=None)
        return
    raise InvalidState(f"Job {job.id} is {job.status}; only a paused job can be resumed.")


def transition(
    session: Session,
    job: Job,
    to: JobStatus,
    *,
    now: datetime,
    message: str,
    level: Level = Level.INFO,
    held_by: str | None = None,
    data: dict[str, Any] | None = None,
    **values: Any,
) -> None:
    """Move the job along a legal edge, with its event, in the caller's transaction.

    The UPDATE is guarded by the old status, and by the lease token `held_by` for an attempt's
    writes: LeaseLost means that somebody else has moved the job since.
    """
    origin = job.status
    if to not in TRANSITIONS[origin]:
        raise IllegalTransition(f"Job {job.id} is {origin} and cannot become {to}.")
    values |= {"status": to}
    if to is not JobStatus.RUNNING:
        values |= dict.fromkeys(("lease_token", "lease_owner", "lease_expires_at", "phase"))
        values |= {"pause_requested_at": None}
    # A job that is not paused has no reason to be.
    values = {"pause_reason": None} | values
    if not TRANSITIONS[to]:
        values |= {"finished_at": now}
    event = NewEvent(
        kind=EventKind.STATE,
        message=message,
        level=level,
        data={"status": to, "from": origin, **(data or {})},
    )
    guard = [Job.status == origin]
    if held_by is not None:
        guard.append(Job.lease_token == held_by)
    add_events(session, job, [event], now=now, guard=guard, **values)
    if to.is_terminal:
        announce(session, job.project_id, f"fine_tuning.job.{to}", {"id": job.id}, now=now)


def add_events(
    session: Session,
    job: Job,
    events: Sequence[NewEvent],
    *,
    now: datetime,
    guard: Sequence[Any] = (),
    **values: Any,
) -> None:
    """Append events and set columns in one guarded UPDATE, and refresh `job` from the row.

    LeaseLost when the guard no longer holds: nothing was written.
    """
    seq = session.scalar(
        update(Job)
        .where(Job.id == job.id, *guard)
        .values(event_seq=Job.event_seq + len(events), **values)
        .returning(Job.event_seq)
        .execution_options(synchronize_session=False)
    )
    if seq is None:
        raise LeaseLost(f"Job {job.id} was moved by somebody else.")
    session.refresh(job)
    append_events(session, job.id, events, last_seq=seq, attempt=job.attempt, now=now)


def delete_job(session: Session, job: Job, *, delete_bytes: Callable[[str], None]) -> None:
    """Forget a job that has ended, and delete what it stored once that is committed.

    InvalidState while it runs, or while another job is to train on what it learned.
    """
    if not job.status.is_terminal:
        raise InvalidState(f"Job {job.id} is {job.status}; cancel it first.")
    check_unused(session, job)
    if job.retry_of is not None:
        # Retries of this one may still begin where it would have begun.
        session.execute(update(Job).where(Job.retry_of == job.id).values(retry_of=job.retry_of))
    session.delete(job)
    after_commit(session, lambda: delete_bytes(f"jobs/{job.id}"))


def check_unused(session: Session, job: Job) -> None:
    """InvalidState while an unfinished job is to train on what this one learned."""
    open_states = [status for status in JobStatus if not status.is_terminal]
    is_used = Job.base_model.startswith(f"jobs/{job.id}", autoescape=True)
    query = select(Job).where(
        Job.status.in_(open_states),
        is_used | ((Job.project_id == job.project_id) & Job.retry_of.is_not(None)),
    )
    for user in session.scalars(query):
        if user.base_model.startswith(f"jobs/{job.id}") or job.id in lineage(session, user):
            raise InvalidState(f"Job {user.id} still needs the checkpoints of this job.")


def watch_jobs(session: Session, job_ids: Sequence[str]) -> Sequence[Row[str, int, JobStatus]]:
    """Id, number of the newest event and status of those of the jobs that exist."""
    query = select(Job.id, Job.event_seq, Job.status).where(Job.id.in_(job_ids))
    return session.execute(query).all()
