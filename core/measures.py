"""How the whole service fares, over all projects, in a few cheap queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.models import Attempt, Job, WebhookDelivery, Worker
from core.room import ALIVE_SECONDS
from core.states import JobStatus, Outcome

GONE = timedelta(days=1)
"""A worker that was not seen for longer is not told of: its row stays, and nobody waits for it."""
MAX_WORKERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Numbers of one moment."""

    now: datetime
    jobs: Mapping[JobStatus, int]
    oldest_queued_at: datetime | None
    attempts: Mapping[Outcome, int]
    """Ended ones of the jobs that are kept."""
    workers: Sequence[Worker]
    deliveries_due: int
    """Webhook deliveries that should have been sent by now."""
    deliveries_failed: int
    """Those given up, as long as the log keeps them."""

    def age_seconds(self, at: datetime) -> float:
        """How long ago that was."""
        return max(0.0, (self.now - at).total_seconds())

    def state_of(self, worker: Worker) -> str:
        """ready, drained or away."""
        if worker.heartbeat_at < self.now - timedelta(seconds=ALIVE_SECONDS):
            return "away"
        return "ready" if worker.drained_at is None else "drained"


def measure(session: Session, *, now: datetime) -> Measures:
    """Six queries, however many jobs there are; two of them by an index alone."""
    by_status = select(Job.status, func.count()).group_by(Job.status)
    by_outcome = (
        select(Attempt.outcome, func.count())
        .where(Attempt.outcome.is_not(None))
        .group_by(Attempt.outcome)
    )
    oldest = select(func.min(Job.queued_at)).where(Job.status == JobStatus.QUEUED)
    seen = select(Worker).where(Worker.heartbeat_at >= now - GONE)
    table = WebhookDelivery
    due = select(func.count()).where(table.status == "pending", table.next_try_at <= now)
    failed = select(func.count()).where(table.status == "failed")
    return Measures(
        now=now,
        jobs=dict(session.execute(by_status).all()),
        oldest_queued_at=session.scalar(oldest),
        attempts={ended: count for ended, count in session.execute(by_outcome) if ended},
        workers=session.scalars(seen.order_by(Worker.heartbeat_at.desc()).limit(MAX_WORKERS)).all(),
        deliveries_due=session.scalar(due) or 0,
        deliveries_failed=session.scalar(failed) or 0,
    )
