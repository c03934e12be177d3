"""What the service itself can change about a failed attempt before the next one."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.failure import Failure
from core.models import Job
from core.refit import refit
from core.rollback import roll_back
from core.room import Hold, needs_after
from core.states import FailureReason, JobStatus


@dataclass(frozen=True, slots=True)
class Remedy:
    """Columns of the job to be changed, and the change in words. It costs no attempt."""

    message: str
    data: dict[str, Any]
    values: dict[str, Any]
    to: JobStatus = JobStatus.QUEUED


def find_remedy(session: Session, job: Job, failure: Failure, *, now: datetime) -> Remedy | None:
    """The remedy of this failure; None when there is none, or none is left."""
    if failure.hold is not None:
        return _pause(session, job, failure, failure.hold, now=now)
    if failure.reason is FailureReason.OUT_OF_MEMORY:
        return _smaller(job, failure)
    if failure.reason is FailureReason.NON_FINITE_LOSS:
        return _slower(session, job, failure)
    return None


def pause_values(session: Session, job: Job, hold: Hold, *, now: datetime) -> dict[str, Any]:
    """Columns of a job that pauses until there is room."""
    until = now + timedelta(seconds=hold.wait_seconds) if hold.wait_seconds else None
    needs = needs_after(session, job, hold)
    return {"pause_reason": hold.message, "not_before_at": until, **needs}


def _pause(session: Session, job: Job, failure: Failure, hold: Hold, *, now: datetime) -> Remedy:
    return Remedy(
        f"Job paused at step {job.step}: {failure.message}",
        {"code": failure.reason.code},
        pause_values(session, job, hold, now=now),
        JobStatus.PAUSED,
    )


def _smaller(job: Job, failure: Failure) -> Remedy | None:
    evidence = failure.evidence or {}
    if not evidence.get("depends_on_batch", True):
        return None
    smaller = refit(job.training, in_evaluation=bool(evidence.get("in_evaluation")))
    if smaller is None:
        return None
    return Remedy(
        f"Out of memory at step {job.step}: {smaller.change}",
        {"code": failure.reason.code, "training": smaller.training},
        {"training": smaller.training},
    )


def _slower(session: Session, job: Job, failure: Failure) -> Remedy | None:
    back = roll_back(session, job, failure)
    if back is None:
        return None
    return Remedy(
        f"{failure.message} {back.change}",
        {"code": failure.reason.code, "rollback": back.note},
        {"training": back.training, "rollback": back.note, "step": back.note["to_step"]},
    )
