"""Bytes that attempts stored and nobody published: removed when no attempt can publish them."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.models import Checkpoint, Job
from core.states import JobStatus
from core.storage import Storage


def remove_garbage(session: Session, storage: Storage, job_id: str) -> int:
    """Delete what dead attempts of a job left in storage; returns how many checkpoints.

    What the running attempt has stored may be about to be published, and stays.
    """
    job = session.get(Job, job_id)
    query = select(Checkpoint.prefix).where(Checkpoint.job_id == job_id)
    published = set(session.scalars(query))
    is_running = job is not None and job.status is JobStatus.RUNNING
    current = f"jobs/{job_id}/attempt-{job.attempt}/" if job is not None and is_running else None
    stored = {"/".join(key.split("/")[:4]) for key, _ in storage.list(f"jobs/{job_id}")}
    garbage = {
        prefix for prefix in stored - published if current is None or not prefix.startswith(current)
    }
    for prefix in garbage:
        storage.delete_prefix(prefix)
    return len(garbage)
