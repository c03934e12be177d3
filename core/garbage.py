"""Bytes in storage that no row speaks of: removed when nobody can come to speak of them."""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db import Database
from core.models import Checkpoint, File, Job, Upload
from core.states import JobStatus
from core.storage import Storage

logger = logging.getLogger(__name__)

STRAY_AGE = timedelta(days=1)
"""A row follows its bytes within seconds, unless the database went away in between."""
LOOKED_UP = 500


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


def remove_strays(database: Database, storage: Storage, *, now: datetime) -> int:
    """Delete old bytes without a row, whatever left them; returns how many objects and folders.

    Files whose row was never written, what deleted jobs and ended uploads left while the storage
    was away, and what a killed process was in the middle of.
    """
    before = now - STRAY_AGE
    removed = storage.remove_unfinished(before)
    for key in storage.list_older("access-check", before):
        storage.delete(key)
        removed += 1
    files = storage.list_older("files", before)
    for key in _not_found(database, files, File.storage_key):
        storage.delete(key)
        removed += 1
    pending = Upload.status == "pending"
    for kind, column, conditions in (("jobs", Job.id, ()), ("uploads", Upload.id, (pending,))):
        owners = {key.split("/")[1] for key in storage.list_older(kind, before)}
        for owner in _not_found(database, owners, column, *conditions):
            storage.delete_prefix(f"{kind}/{owner}")
            removed += 1
    if removed:
        logger.info("removed %d strays from the storage", removed)
    return removed


def _not_found(
    database: Database,
    values: Iterable[str],
    column: InstrumentedAttribute[str],
    *conditions: ColumnElement[bool],
) -> Sequence[str]:
    asked, found = list(values), list[str]()
    for first in range(0, len(asked), LOOKED_UP):
        some = asked[first : first + LOOKED_UP]
        with database.read() as session:
            known = set(session.scalars(select(column).where(column.in_(some), *conditions)))
        found += [value for value in some if value not in known]
    return found
