"""Which checkpoints an attempt may go on from, and how far its training then goes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.models import Checkpoint, Job
from core.plan.amount import DEFAULT_EPOCHS
from core.refit import ACCUMULATION, DEFAULT_BATCH_SIZE, MICRO_BATCH


def resumable(session: Session, job: Job) -> list[Checkpoint]:
    """The best first: those of this job, then those of the job that it retries, and so on.

    Verify before use.
    """
    return [
        checkpoint for job_id in lineage(session, job) for checkpoint in _sound(session, job_id)
    ]


def lineage(session: Session, job: Job) -> Iterator[str]:
    """Ids of this job, of the one that it retries, of the one that that one retries, and so on."""
    yield job.id
    origin = job.retry_of
    while origin is not None:
        yield origin
        origin = session.scalar(select(Job.retry_of).where(Job.id == origin))


def beginning_of_retry(session: Session, job: Job) -> Checkpoint | None:
    """The checkpoint that a retry of this job begins from; None where it begins at step 0."""
    return next(iter(resumable(session, job)), None)


def last_step(training: Mapping[str, Any], sequences: int) -> int:
    """The step at which the trainer has gone through so many sequences as often as it is to."""
    micro_batch = int(training.get(MICRO_BATCH, DEFAULT_BATCH_SIZE))
    whole, rest = divmod(sequences, micro_batch)
    batches = whole + (1 if rest and not training.get("dataloader_drop_last") else 0)
    steps = max(1, math.ceil(batches / int(training.get(ACCUMULATION, 1))))
    return math.ceil(steps * float(training.get("num_train_epochs", DEFAULT_EPOCHS)))


def mark_diverged(session: Session, job: Job, *, step: int) -> None:
    """Never resume from the weights of this step or later ones: what follows is not finite."""
    session.execute(
        update(Checkpoint)
        .where(Checkpoint.job_id.in_(list(lineage(session, job))), Checkpoint.step >= step)
        .values(is_diverged=True)
    )


def _sound(session: Session, job_id: str) -> list[Checkpoint]:
    query = select(Checkpoint).where(
        Checkpoint.job_id == job_id,
        Checkpoint.is_corrupt.is_(False),
        Checkpoint.is_diverged.is_(False),
    )
    return list(session.scalars(query.order_by(Checkpoint.step.desc())))
