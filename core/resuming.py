"""Which checkpoints an attempt may go on from."""

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.models import Checkpoint, Job


def resumable(session: Session, job: Job) -> list[Checkpoint]:
    """The best first: those of this job, else those of the job that it retries.

    Verify before use.
    """
    found = _sound(session, job.id)
    if not found and job.retry_of is not None:
        return _sound(session, job.retry_of)
    return found


def beginning_of_retry(session: Session, job: Job) -> Checkpoint | None:
    """The checkpoint that a retry of this job begins from; None where it begins at step 0."""
    return next(iter(_sound(session, job.id)), None)


def mark_diverged(session: Session, job: Job, *, step: int) -> None:
    """Never resume from the weights of this step or later ones: what follows is not finite."""
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.job_id.in_((job.id, job.retry_of)), Checkpoint.step >= step)
        .values(is_diverged=True)
    )


def _sound(session: Session, job_id: str) -> list[Checkpoint]:
    query = select(Checkpoint).where(
        Checkpoint.job_id == job_id,
        Checkpoint.is_corrupt.is_(False),
        Checkpoint.is_diverged.is_(False),
    )
    return list(session.scalars(query.order_by(Checkpoint.step.desc())))
