"""Which queued job is next, and what the others wait for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, aliased

from core.db import is_postgresql
from core.jobs import transition
from core.models import Job
from core.room import Room, all_drained, fits, lack_of_room
from core.states import JobStatus


def best_queued(session: Session, *, now: datetime, room: Room | None) -> Select[Job]:
    """The query for the job to be run next: priority, then the project with the fewest running."""
    other = aliased(Job)
    running = (
        select(func.count())
        .where(other.project_id == Job.project_id, other.status == JobStatus.RUNNING)
        .scalar_subquery()
    )
    query = (
        select(Job)
        .where(*_claimable(now, room))
        .order_by(Job.priority.desc(), running, Job.queued_at, Job.id)
        .limit(1)
    )
    if is_postgresql(session):
        return query.with_for_update(skip_locked=True, of=Job)
    return query


def count_claimable(session: Session, *, now: datetime, room: Room | None = None) -> int:
    """How many queued jobs could be claimed now."""
    query = select(func.count()).select_from(Job).where(*_claimable(now, room))
    return session.scalar(query) or 0


def resume_held_jobs(session: Session, *, now: datetime, room: Room) -> int:
    """Queue the jobs again that paused for want of room and have it now; returns how many."""
    query = select(Job).where(
        Job.status == JobStatus.PAUSED, Job.pause_reason.is_not(None), _is_due(now), *fits(room)
    )
    if is_postgresql(session):
        query = query.with_for_update(skip_locked=True, of=Job)
    jobs: Sequence[Job] = session.scalars(query.limit(100)).all()
    for job in jobs:
        message = "There is room again: job resumed"
        transition(session, job, JobStatus.QUEUED, now=now, message=message, queued_at=now)
    return len(jobs)


def queue_place(session: Session, job: Job, *, now: datetime) -> tuple[int, str] | None:
    """How many jobs go before a queued one, and why it waits; None when it does not wait."""
    if job.status is not JobStatus.QUEUED:
        return None
    if job.not_before_at is not None and job.not_before_at > now:
        seconds = (job.not_before_at - now).total_seconds()
        return 0, f"tried again in {seconds:.0f} s"
    drained = all_drained(session, now=now)
    if drained:
        return 0, f"every worker is drained; `tuneyard workers undrain {drained[0]}` lets one claim"
    lack = lack_of_room(session, job, now=now)
    if lack is not None:
        return 0, lack
    ahead = select(func.count()).where(
        Job.status == JobStatus.QUEUED,
        (Job.priority > job.priority)
        | ((Job.priority == job.priority) & (Job.queued_at < job.queued_at)),
    )
    position = session.scalar(ahead) or 0
    running = session.scalar(select(func.count()).where(Job.status == JobStatus.RUNNING)) or 0
    return position, f"waits for a free worker; {position} ahead, {running} running"


def _claimable(now: datetime, room: Room | None) -> tuple[Any, ...]:
    return (Job.status == JobStatus.QUEUED, _is_due(now), *fits(room))


def _is_due(now: datetime) -> Any:
    return or_(Job.not_before_at.is_(None), Job.not_before_at <= now)
