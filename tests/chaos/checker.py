"""Reads SQL and storage after a chaos run and tells every promise that was broken."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.checkpoints import entries
from core.db import Database
from core.events import read_events
from core.models import Attempt, Checkpoint, Event, Job
from core.states import EventKind, JobStatus, Outcome
from core.storage import STAGED, Storage
from tests.chaos.user import Promise


def violations(
    database: Database, storage: Storage, promises: Iterable[Promise] | None = None
) -> list[str]:
    """What is wrong with the jobs of a service that has come to rest; empty when all is well.

    `promises` is what its users were told, of all of its jobs.
    """
    found: list[str] = []
    with database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(Job))}
        for job in jobs.values():
            events = read_events(session, job.id, after_seq=0, limit=1_000_000)
            query = select(Attempt).where(Attempt.job_id == job.id).order_by(Attempt.number)
            attempts = list(session.scalars(query))
            for problem in (
                *_of_state(job, events),
                *_of_events(job, events),
                *_of_attempts(job, attempts, events),
                *_of_steps(job, attempts, events),
                *_of_checkpoints(session, storage, job, events),
            ):
                found.append(f"{job.id}: {problem}")
    found += _of_bytes(storage, set(jobs))
    return found + (list(_of_promises(jobs, list(promises))) if promises is not None else [])


def _of_promises(jobs: dict[str, Job], promises: list[Promise]) -> Iterator[str]:
    """No job is lost or made twice; each came to the end that its user was told."""
    doubled = [name for name, count in Counter(p.job_id for p in promises).items() if count > 1]
    if doubled:
        yield f"{doubled} were given to two requests"
    strangers = set(jobs) - {promise.job_id for promise in promises}
    if strangers:
        yield f"{sorted(strangers)} were asked for by nobody"
    for promise in promises:
        job = jobs.get(promise.job_id)
        if (job is None) != promise.is_deleted:
            yield f"{promise.job_id}: is {'there' if job else 'lost'}, against its user's will"
        if job is not None and job.status is not promise.status:
            why = f" ({job.error})" if job.error else ""
            yield f"{job.id}: is {job.status}{why}; its user was promised {promise.status}"
        if promise.seen != list(range(1, len(promise.seen) + 1)):
            yield f"{promise.job_id}: its reader missed events, or saw them twice"
        if job is not None and len(promise.seen) != job.event_seq:
            yield f"{job.id}: its reader saw {len(promise.seen)} of {job.event_seq} events"


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
    if job.lease_token is not None:
        yield "has ended and is still held"


def _of_events(job: Job, events: list[Event]) -> Iterator[str]:
    numbers = [event.seq for event in events]
    if numbers != list(range(1, job.event_seq + 1)):
        yield "has gaps in its events"
    attempts = [event.attempt for event in events]
    if attempts != sorted(attempts):
        yield "was written to by an attempt that had lost it"
    states = [event.data for event in events if event.kind is EventKind.STATE]
    for before, after in pairwise(states):
        if after["from"] != before["status"]:
            yield f"went from {after['from']} to {after['status']} when it was {before['status']}"


def _of_attempts(job: Job, attempts: list[Attempt], events: list[Event]) -> Iterator[str]:
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


def _of_steps(job: Job, attempts: list[Attempt], events: list[Event]) -> Iterator[str]:
    """Each attempt goes on where it resumed, and trains and tells each step once, in order."""
    reached = 0
    for attempt in attempts:
        steps = [
            event.data["step"]
            for event in events
            if event.attempt == attempt.number
            and event.kind is EventKind.METRICS
            and "train_loss" in event.data
        ]
        first = attempt.resumed_from_step
        if not steps:
            # It may have ended before it knew where to go on.
            continue
        if first > reached:
            yield f"attempt {attempt.number} resumed from step {first}, which nobody trained"
        if steps != list(range(first + 1, first + 1 + len(steps))):
            yield f"attempt {attempt.number} resumed from {first} and trained {steps}"
        reached = steps[-1]
    if job.status is JobStatus.SUCCEEDED and reached != job.total_steps:
        yield f"succeeded at step {reached} of {job.total_steps}"


def _of_checkpoints(
    session: Session, storage: Storage, job: Job, events: list[Event]
) -> Iterator[str]:
    query = select(Checkpoint).where(Checkpoint.job_id == job.id)
    found = list(session.scalars(query.order_by(Checkpoint.step)))
    if job.status is JobStatus.SUCCEEDED and job.total_steps not in {c.step for c in found}:
        yield "succeeded without a checkpoint of its last step"
    told = Counter(
        (event.attempt, event.data["step"])
        for event in events
        if event.kind is EventKind.CHECKPOINT
    )
    for checkpoint in found:
        count = told[checkpoint.attempt, checkpoint.step]
        if count != 1:
            yield f"told {count} times of its checkpoint of step {checkpoint.step}"
        for entry in entries(checkpoint):
            key = f"{checkpoint.prefix}/{entry.path}"
            if hashlib.sha256(storage.read_bytes(key)).hexdigest() != entry.sha256:
                yield f"published {key}, which does not match its hash"
    limit = job.training.get("save_total_limit")
    if limit is not None and len(found) > limit:
        yield f"keeps {len(found)} checkpoints, {limit} were asked for"
    prefixes = {checkpoint.prefix for checkpoint in found}
    stored = {"/".join(key.split("/")[:4]) for key in _keys(storage, f"jobs/{job.id}")}
    if stored - prefixes:
        yield f"left {sorted(stored - prefixes)} unpublished"


def _of_bytes(storage: Storage, job_ids: set[str]) -> Iterator[str]:
    """Nothing is stored of jobs that are gone, and nothing is half stored."""
    strangers = {key.split("/")[1] for key in _keys(storage, "jobs")} - job_ids
    if strangers:
        yield f"bytes are left of {sorted(strangers)}, which are gone"
    staged = [key for top in ("jobs", "files") for key in _keys(storage, top) if STAGED.search(key)]
    if staged:
        yield f"{staged} are left of uploads that broke off"


def _keys(storage: Storage, prefix: str) -> list[str]:
    """All keys; of a folder also the files that the storage itself does not show."""
    folder = storage.local_path(prefix)
    if folder is None:
        return [key for key, _ in storage.list(prefix)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f"{prefix}/{path.relative_to(folder).as_posix()}" for path in files]
