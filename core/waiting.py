"""Which queued job is next, and what the others wait for."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, func, or_, select
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


def queue_places(
    session: Session, jobs: Sequence[Job], *, now: datetime, fleet: Fleet | None = None
) -> dict[str, tuple[int, str]]:
    """By job that waits: how many go before it, and why it waits.

    For many jobs there are no more questions to the database than for one. The `fleet` is that of
    now; it is looked up when it is not given.
    """
    queued = [job for job in jobs if job.status is JobStatus.QUEUED]
    if not queued:
        return {}
    fleet = fleet or Fleet.alive(session, now=now)
    if fleet.drained:
        why = (
            f"every worker is drained; `tuneyard workers undrain {fleet.drained[0]}` lets one claim"
        )
        return {job.id: (0, _back_off(job, now) or why) for job in queued}
    # Who was never run has stored nothing.
    resumed = [job for job in queued if job.attempt > 0]
    stored = stored_bytes(session, resumed) if resumed else {}
    places = {}
    for job, ahead, running in _counted(session, queued):
        obstacle = _back_off(job, now) or lack_of_room(
            job, fleet, stored_bytes=stored.get(job.id, 0), is_any_running=running > 0
        )
        waits = f"waits for a free worker; {ahead} ahead, {running} running"
        places[job.id] = (0, obstacle) if obstacle else (ahead, waits)
    return places


def _back_off(job: Job, now: datetime) -> str | None:
    if job.not_before_at is None or job.not_before_at <= now:
        return None
    return f"tried again in {(job.not_before_at - now).total_seconds():.0f} s"


def _counts() -> Select[str, int, int]:
    """By job: how many queued jobs come before it, whatever hinders them, and how many run."""
    other, any_job = aliased(Job), aliased(Job)
    ahead = (
        select(func.count())
        .where(
            other.status == JobStatus.QUEUED,
            (other.priority > Job.priority)
            | ((other.priority == Job.priority) & (other.queued_at < Job.queued_at)),
        )
        .correlate(Job)
        .scalar_subquery()
    )
    running = select(func.count()).where(any_job.status == JobStatus.RUNNING).scalar_subquery()
    return select(Job.id, ahead, running).where(Job.id.in_(bindparam("ids", expanding=True)))


_COUNTS = _counts()


def _counted(session: Session, jobs: Sequence[Job]) -> Iterator[tuple[Job, int, int]]:
    found = session.execute(_COUNTS, {"ids": [job.id for job in jobs]})
    by_id = {job_id: (ahead, running) for job_id, ahead, running in found}
    for job in jobs:
        yield (job, *by_id[job.id])


def _claimable(now: datetime, room: Room | None) -> tuple[Any, ...]:
    return (Job.status == JobStatus.QUEUED, _is_due(now), *fits(room))


def _is_due(now: datetime) -> Any:
    return or_(Job.not_before_at.is_(None), Job.not_before_at <= now)
