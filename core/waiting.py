"""Which queued job is next, and what the others wait for."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, aliased

from core.db import is_postgresql
from core.jobs import transition
from core.models import Job
from core.room import Fleet, Room, fits, lack_of_room, stored_bytes
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
    return queue_places(session, [job], now=now).get(job.id)


def queue_places(
    session: Session, jobs: Sequence[Job], *, now: datetime
) -> dict[str, tuple[int, str]]:
    """The same for those of these jobs that wait, by job, with as few questions as for one."""
    queued = [job for job in jobs if job.status is JobStatus.QUEUED]
    if not queued:
        return {}
    fleet = Fleet.alive(session, now=now)
    if fleet.drained:
        why = (
            f"every worker is drained; `tuneyard workers undrain {fleet.drained[0]}` lets one claim"
        )
        return {job.id: (0, _back_off(job, now) or why) for job in queued}
    running = session.scalar(select(func.count()).where(Job.status == JobStatus.RUNNING)) or 0
    stored, ahead = stored_bytes(session, queued), _ahead(session, queued)
    places = {}
    for job in queued:
        obstacle = _back_off(job, now) or lack_of_room(
            job, fleet, stored_bytes=stored.get(job.id, 0), is_any_running=running > 0
        )
        waits = f"waits for a free worker; {ahead[job.id]} ahead, {running} running"
        places[job.id] = (0, obstacle) if obstacle else (ahead[job.id], waits)
    return places


def _back_off(job: Job, now: datetime) -> str | None:
    if job.not_before_at is None or job.not_before_at <= now:
        return None
    return f"tried again in {(job.not_before_at - now).total_seconds():.0f} s"


def _ahead(session: Session, jobs: Sequence[Job]) -> dict[str, int]:
    """How many queued jobs come before each of these, whatever hinders them."""
    other = aliased(Job)
    count = (
        select(func.count())
        .where(
            other.status == JobStatus.QUEUED,
            (other.priority > Job.priority)
            | ((other.priority == Job.priority) & (other.queued_at < Job.queued_at)),
        )
        .correlate(Job)
        .scalar_subquery()
    )
    query = select(Job.id, count).where(Job.id.in_([job.id for job in jobs]))
    return {job_id: int(number) for job_id, number in session.execute(query)}


def _claimable(now: datetime, room: Room | None) -> tuple[Any, ...]:
    return (Job.status == JobStatus.QUEUED, _is_due(now), *fits(room))


def _is_due(now: datetime) -> Any:
    return or_(Job.not_before_at.is_(None), Job.not_before_at <= now)
