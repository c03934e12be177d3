"""A worker whose writes are not fenced: the control that the checker of the chaos run must catch.

celery -A tests.chaos.unfenced worker
"""

from functools import wraps
from typing import Any

from core import queue
from core.jobs import transition
from core.models import Job
from core.states import JobStatus
from worker.celery_app import app as app


def _held_by_anybody(lease: queue.Lease) -> tuple[Any, ...]:
    return (Job.id == lease.job_id, Job.status == JobStatus.RUNNING)


@wraps(transition)
def _transition_by_anybody(*arguments: Any, held_by: str | None = None, **more: Any) -> None:
    transition(*arguments, **more)


queue._held = _held_by_anybody
queue.transition = _transition_by_anybody  # type: ignore[attr-defined]
