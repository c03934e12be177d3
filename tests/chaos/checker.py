"""Reads SQL and storage after a chaos run and tells every promise that was broken."""

import hashlib
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.checkpoints import entries
from core.db import Database
from core.events import read_events, read_metrics
from core.models import Attempt, Checkpoint, Event, Job
from core.states import EventKind, JobStatus, Outcome
from core.storage import Storage


def violations(database: Database, storage: Storage) -> list[str]:
    """What is wrong with the jobs of a service that has come to rest; empty when all is well."""
    found: list[str] = []
    with database.read() as session:
        for job in session.scalars(select(Job)):
            events = read_events(session, job.id, after_seq=0, limit=1_000_000)
            for problem in (
                *_of_state(job, events),
                *_of_events(job, events),
                *_of_attempts(session, job, events),
                *_of_steps(session, job),
                *_of_checkpoints(session, storage, job),
            ):
                found.append(f"{job.id}: {problem}")
    return found


def _of_state(job: Job, events: list[Event]) -> Iterator[str]:
    if not job.status.is_terminal:
        yield f"is {job.status}, not at its end"
        return
    ends = [
        event
        for event in events
        if event.kind is EventKind.STATE and JobStatus(event.data["status"]).is_terminal
    ]
    if len(ends) != 1 or ends[0] is not events[-1]:
        yield f"has {len(ends)} terminal events, or something after the last one"


def _of_events(job: Job, events: list[Event]) -> Iterator[str]:
    numbers = [event.seq for event in events]
    if numbers != list(range(1, job.event_seq + 1)):
        yield "has gaps in its events"
    attempts = [event.attempt for event in events]
    if attempts != sorted(attempts):
        yield "was written to by an attempt that had lost it"


def _of_attempts(session: Session, job: Job, events: list[Event]) -> Iterator[str]:
    query = select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
    attempts = list(session.scalars(query))
    if [attempt.number for attempt in attempts] != list(range(1, job.attempt + 1)):
        yield "has an attempt too many or too few"
    for attempt in attempts:
        if attempt.outcome is None:
            yield f"attempt {attempt.number} has no end"
    if job.status is JobStatus.SUCCEEDED and attempts[-1].outcome is not Outcome.SUCCEEDED:
        yield "succeeded without its last attempt"
    for event in events:
        if event.attempt > job.attempt:
            yield f"event {event.seq} is of attempt {event.attempt}, which never was"


def _of_steps(session: Session, job: Job) -> Iterator[str]:
    """Each step was trained exactly once in the history that won."""
    if job.status is not JobStatus.SUCCEEDED:
        return
    metrics = read_metrics(session, job.id)
    pairs = zip(metrics["step"], metrics.get("train_loss", []), strict=True)
    trained = [step for step, loss in pairs if loss is not None]
    if trained != list(range(1, (job.total_steps or 0) + 1)):
        yield f"trained {len(trained)} of {job.total_steps} steps in the history that won"


def _of_checkpoints(session: Session, storage: Storage, job: Job) -> Iterator[str]:
    found = list(session.scalars(select(Checkpoint).where(Checkpoint.job_id == job.id)))
    if job.status is JobStatus.SUCCEEDED and job.total_steps not in {c.step for c in found}:
        yield "succeeded without a checkpoint of its last step"
    for checkpoint in found:
        for entry in entries(checkpoint):
            key = f"{checkpoint.prefix}/{entry.path}"
            if hashlib.sha256(storage.read_bytes(key)).hexdigest() != entry.sha256:
                yield f"published {key}, which does not match its hash"
    prefixes = {checkpoint.prefix for checkpoint in found}
    stored = {"/".join(key.split("/")[:4]) for key, _ in storage.list(f"jobs/{job.id}")}
    if stored - prefixes:
        yield f"left {sorted(stored - prefixes)} unpublished"
