"""The queue as workers see it: claim, heartbeat, record, end, rescue.

Every write of an attempt carries its lease: it is one transaction that begins with an UPDATE
guarded by the lease's token. No row updated means that the attempt has lost its job, and nothing
of it is written.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.db import is_postgresql
from core.errors import LeaseLost
from core.events import NewEvent, log_tail
from core.failure import Failure, RetryPolicy
from core.files import NewFile
from core.jobs import add_events, transition
from core.models import Attempt, Job
from core.plan.experience import Measured, note_outcome
from core.remedy import find_remedy, pause_values
from core.results import add_results
from core.rollback import explain_divergence
from core.room import Hold, Room
from core.states import EventKind, FailureReason, JobStatus, Level, Outcome
from core.waiting import best_queued
from core.workers import is_drained

EVIDENCE_LINES = 40


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to write one attempt of one job. `token` is the fence."""

    job_id: str
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class Requests:
    """What users have asked of a running job."""

    cancel: bool
    save: bool
    pause: bool


def claim_job(
    session: Session,
    *,
    worker: str,
    now: datetime,
    lease_seconds: float,
    room: Room | None = None,
) -> tuple[Job, Lease] | None:
    """Take the best queued job and open an attempt; None when there is nothing to do.

    Priority first, then the project with the fewest running jobs, then age. Safe to call from
    several workers at once. The lease lasts `lease_seconds`; renew it with `heartbeat`. Jobs that
    need more than `room` on the disks are left to others. A drained worker is given nothing.
    """
    if is_drained(session, worker):
        return None
    job = session.scalar(best_queued(session, now=now, room=room))
    if job is None:
        return None
    number, token = job.attempt + 1, secrets.token_hex(16)
    try:
        transition(
            session,
            job,
            JobStatus.RUNNING,
            now=now,
            message=f"Attempt {number} started on {worker}",
            data={"attempt": number, "worker": worker},
            attempt=number,
            started_at=job.started_at or now,
            lease_token=token,
            lease_owner=worker,
            lease_expires_at=now + timedelta(seconds=lease_seconds),
        )
    except LeaseLost:
        return None
    attempt = Attempt(
        job_id=job.id, number=number, worker=worker, lease_token=token, started_at=now
    )
    session.add(attempt)
    session.flush()
    return job, Lease(job.id, number, token)


def heartbeat(session: Session, lease: Lease, *, now: datetime, lease_seconds: float) -> Requests:
    """Renew the lease, and learn what was asked of the job; LeaseLost means stop at once."""
    row = session.execute(
        update(Job)
        .where(*_held(lease))
        .values(lease_expires_at=now + timedelta(seconds=lease_seconds))
        .returning(Job.cancel_requested_at, Job.save_on_cancel, Job.pause_requested_at)
        .execution_options(synchronize_session=False)
    ).first()
    if row is None:
        raise LeaseLost
    return Requests(cancel=row[0] is not None, save=row[1], pause=row[2] is not None)


def record(
    session: Session, lease: Lease, events: Sequence[NewEvent], *, now: datetime, **values: Any
) -> None:
    """Append an attempt's events, and set progress columns of its job, under the lease."""
    job = held_job(session, lease)
    add_events(session, job, events, now=now, guard=_held(lease), **values)


def record_batch(
    session: Session,
    lease: Lease,
    number: int,
    events: Sequence[NewEvent],
    *,
    now: datetime,
    **values: Any,
) -> None:
    """Do as `record` does, once for each number, which rises: to do it again is harmless.

    A connection that breaks during the commit leaves open whether it was done.
    """
    held_job(session, lease)
    attempt = _attempt(session, lease)
    if attempt.num_batches < number:
        attempt.num_batches = number
        record(session, lease, events, now=now, **values)


def held_job(session: Session, lease: Lease) -> Job:
    """The job of a lease that is still held, else LeaseLost."""
    query = select(Job).where(*_held(lease))
    job = session.scalar(query.with_for_update() if is_postgresql(session) else query)
    if job is None:
        raise LeaseLost
    return job


def note_resume(session: Session, lease: Lease, *, step: int, now: datetime) -> None:
    """Remember that the attempt goes on after `step` optimizer steps, which must be published."""
    record(
        session,
        lease,
        [
            NewEvent(
                kind=EventKind.MESSAGE,
                message=f"Resuming from the checkpoint of step {step}",
                data={"step": step},
            )
        ],
        now=now,
        step=step,
    )
    _attempt(session, lease).resumed_from_step = step


def succeed_attempt(
    session: Session,
    lease: Lease,
    *,
    now: datetime,
    trained_tokens: int | None,
    peak_memory_bytes: int | None,
    seconds_per_step: float | None = None,
    results: NewFile | None = None,
) -> None:
    """End the job well. Its last checkpoint must have been published before.

    A cancel that was accepted meanwhile stands: its user was told so.
    """
    job = held_job(session, lease)
    if results is not None:
        add_results(session, job, results, now=now)
    if job.cancel_requested_at is not None:
        stop_attempt(session, lease, Outcome.CANCELLED, now=now)
        return
    model = f"jobs/{job.id}"
    _close(session, lease, Outcome.SUCCEEDED, now=now, peak_memory_bytes=peak_memory_bytes)
    measured = Measured(peak_memory_bytes, seconds_per_step)
    values = note_outcome(
        session, job, worker=_attempt(session, lease).worker, measured=measured, now=now
    )
    transition(
        session,
        job,
        JobStatus.SUCCEEDED,
        now=now,
        message="The job has successfully completed",
        data={"fine_tuned_model": model},
        held_by=lease.token,
        fine_tuned_model=model,
        measured=values,
        trained_tokens=trained_tokens,
        step=job.total_steps or job.step,
    )


def fail_attempt(
    session: Session, lease: Lease, failure: Failure, *, now: datetime, policy: RetryPolicy
) -> None:
    """End the attempt badly: the job waits for the next one when that can help, else it failed.

    Where the service can change something first, it does, and the attempt is not charged.
    """
    job = held_job(session, lease)
    if failure.reason is FailureReason.NON_FINITE_LOSS:
        failure = explain_divergence(session, job, failure)
    _close(session, lease, Outcome.FAILED, now=now, error=_attempt_error(failure))
    remedy = find_remedy(session, job, failure, now=now)
    if remedy is not None:
        _requeue(
            session,
            job,
            now=now,
            message=remedy.message,
            data=remedy.data,
            held_by=lease.token,
            to=remedy.to,
            **remedy.values,
        )
        return
    failed = job.num_failed_attempts + 1
    if not failure.reason.is_retryable or failed >= job.max_attempts:
        _fail(session, job, failure, now=now, held_by=lease.token, num_failed_attempts=failed)
        return
    wait = policy.wait(failed)
    _requeue(
        session,
        job,
        now=now,
        message=f"{failure.message} Trying again in {wait.total_seconds():.0f} s",
        data={"code": failure.reason.code},
        held_by=lease.token,
        num_failed_attempts=failed,
        not_before_at=now + wait,
    )


def stop_attempt(
    session: Session,
    lease: Lease,
    outcome: Outcome,
    *,
    now: datetime,
    hold: Hold | None = None,
) -> None:
    """End the attempt at a step boundary because somebody asked for it, at no cost to the job.

    `outcome` says who: CANCELLED and PAUSED users, RELEASED a worker that is leaving. With `hold`
    it is the worker that pauses the job, for want of room.
    """
    job = held_job(session, lease)
    _close(session, lease, outcome, now=now)
    if outcome is Outcome.RELEASED:
        message = f"Worker {job.lease_owner} is leaving; the job goes back to the queue"
        _requeue(session, job, now=now, message=message, held_by=lease.token)
        return
    if hold is not None:
        values = pause_values(session, job, hold, now=now)
        message = f"Job paused at step {job.step}: {hold.message}"
        to = JobStatus.PAUSED
        _requeue(session, job, now=now, message=message, held_by=lease.token, to=to, **values)
        return
    to = JobStatus.PAUSED if outcome is Outcome.PAUSED else JobStatus.CANCELLED
    message = f"Job {to} at step {job.step}"
    transition(session, job, to, now=now, message=message, held_by=lease.token)


def rescue_jobs(session: Session, *, now: datetime, policy: RetryPolicy) -> int:
    """Give back the jobs whose lease expired; returns how many. Idempotent: any number may run."""
    query = (
        select(Job)
        .where(Job.status == JobStatus.RUNNING, Job.lease_expires_at < now)
        .order_by(Job.lease_expires_at)
        .limit(100)
    )
    if is_postgresql(session):
        query = query.with_for_update(skip_locked=True)
    jobs = list(session.scalars(query))
    for job in jobs:
        _rescue(session, job, now=now, policy=policy)
    return len(jobs)


def _held(lease: Lease) -> tuple[Any, ...]:
    return (
        Job.id == lease.job_id,
        Job.attempt == lease.attempt,
        Job.lease_token == lease.token,
        Job.status == JobStatus.RUNNING,
    )


def _attempt(session: Session, lease: Lease) -> Attempt:
    return session.get_one(Attempt, (lease.job_id, lease.attempt))


def _close(
    session: Session, lease: Lease, outcome: Outcome, *, now: datetime, **values: Any
) -> None:
    session.execute(
        update(Attempt)
        .where(Attempt.job_id == lease.job_id, Attempt.number == lease.attempt)
        .values(outcome=outcome, finished_at=now, **values)
    )


def _requeue(
    session: Session,
    job: Job,
    *,
    now: datetime,
    message: str,
    held_by: str | None,
    to: JobStatus = JobStatus.QUEUED,
    **values: Any,
) -> None:
    """Back to the queue, or to where the user has asked for it to go meanwhile."""
    level = Level.INFO if not values else Level.WARN
    if job.pause_requested_at is not None:
        to = JobStatus.PAUSED
        values["pause_reason"] = None
    if job.cancel_requested_at is not None:
        to, message = JobStatus.CANCELLED, "Job cancelled"
        values["pause_reason"] = None
    transition(session, job, to, now=now, message=message, level=level, held_by=held_by, **values)


def _fail(
    session: Session,
    job: Job,
    failure: Failure,
    *,
    now: datetime,
    held_by: str | None,
    **values: Any,
) -> None:
    transition(
        session,
        job,
        JobStatus.FAILED,
        now=now,
        message=failure.message,
        level=Level.ERROR,
        data={"code": failure.reason.code},
        held_by=held_by,
        error=failure.as_error(),
        **values,
    )


def _rescue(session: Session, job: Job, *, now: datetime, policy: RetryPolicy) -> None:
    assert job.lease_token is not None
    lease = Lease(job.id, job.attempt, job.lease_token)
    message = f"Worker {job.lease_owner} died or was cut off during attempt {job.attempt}."
    failure = Failure(
        reason=FailureReason.WORKER_LOST,
        message=message,
        evidence={
            "step": job.step,
            "worker": job.lease_owner,
            "phase": job.phase,
            "log": log_tail(session, job.id, EVIDENCE_LINES),
        },
    )
    _close(session, lease, Outcome.LOST, now=now, error=_attempt_error(failure))
    lost = job.num_lost_attempts + 1
    if lost > policy.max_lost_attempts:
        _fail(session, job, failure, now=now, held_by=lease.token, num_lost_attempts=lost)
    else:
        _requeue(
            session,
            job,
            now=now,
            message=f"{message} Trying again",
            data={"code": failure.reason.code},
            held_by=lease.token,
            num_lost_attempts=lost,
            not_before_at=now + policy.wait(lost) if lost > 1 else None,
        )


def _attempt_error(failure: Failure) -> dict[str, Any]:
    return failure.as_error() | {"evidence": failure.evidence}
