"""Room on disks and in memory: what a job takes, what a worker has, what to say when it lacks.

A worker has a scratch disk of its own, and sees the storage's disk when that is a local folder.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from core.errors import InsufficientDisk
from core.models import Checkpoint, Job, Worker
from core.states import JobStatus
from core.workers import list_workers, memory_of

UNPUBLISHED = 2
"""Checkpoints that are in scratch at a time: one waits for the storage, one is being written."""
ALIVE_SECONDS = 120.0
"""A worker that was silent for longer is not counted on."""
PLACES = {"scratch": "the scratch disk (TUNEYARD_SCRATCH)", "storage": "the storage (STORAGE_URL)"}


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that one worker may still write, or hold; null where there is no telling."""

    scratch_bytes: int | None
    storage_bytes: int | None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a job cannot go on for now, and what it needs beyond what its attempt had."""

    message: str
    scratch_bytes: int = 0
    storage_bytes: int = 0
    wait_seconds: float = 0
    """How long to wait before it is tried where nobody can tell what room there is."""


def needs_of(plan: Mapping[str, Any] | None) -> dict[str, int | None]:
    """What a planned job takes, as columns of the job; unknown without a plan."""
    plan = plan or {}
    each, memory = plan.get("checkpoint_bytes"), plan.get("memory_bytes")
    if each is None:
        return {"scratch_bytes": None, "storage_bytes": None, "memory_bytes": memory}
    return {
        "scratch_bytes": UNPUBLISHED * each,
        "storage_bytes": plan["disk_bytes"],
        "memory_bytes": memory,
    }


def reserved_bytes(session: Session, *, worker: str) -> int:
    """Memory that the jobs take, by their plans, which run on a worker now."""
    query = select(func.sum(Job.memory_bytes)).where(
        Job.status == JobStatus.RUNNING, Job.lease_owner == worker
    )
    return int(session.scalar(query) or 0)


def needs_after(session: Session, job: Job, hold: Hold) -> dict[str, int]:
    """The same after an attempt that ran out of room."""
    stored = stored_bytes(session, [job]).get(job.id, 0)
    return {
        "scratch_bytes": max(job.scratch_bytes or 0, hold.scratch_bytes),
        "storage_bytes": max(job.storage_bytes or 0, stored + hold.storage_bytes),
    }


def fits(room: Room | None) -> tuple[ColumnElement[bool], ...]:
    """Conditions on jobs: what they are still to write has room there."""
    if room is None:
        return ()
    stored = (
        select(func.coalesce(func.sum(Checkpoint.size_bytes), 0))
        .where(Checkpoint.job_id == Job.id)
        .correlate(Job)
        .scalar_subquery()
    )
    conditions: list[ColumnElement[bool]] = []
    if room.scratch_bytes is not None:
        conditions.append(or_(Job.scratch_bytes.is_(None), Job.scratch_bytes <= room.scratch_bytes))
    if room.storage_bytes is not None:
        conditions.append(
            or_(Job.storage_bytes.is_(None), Job.storage_bytes - stored <= room.storage_bytes)
        )
    if room.memory_bytes is not None:
        conditions.append(or_(Job.memory_bytes.is_(None), Job.memory_bytes <= room.memory_bytes))
    return tuple(conditions)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers that are alive, as they last described themselves."""

    workers: Sequence[Worker]

    @classmethod
    def alive(cls, session: Session, *, now: datetime) -> "Fleet":
        """As of now."""
        since = now - timedelta(seconds=ALIVE_SECONDS)
        return cls([worker for worker in list_workers(session) if worker.heartbeat_at >= since])

    @property
    def drained(self) -> list[str]:
        """The names of all, if none of them may claim; else nothing."""
        is_any_free = any(worker.drained_at is None for worker in self.workers)
        return [] if is_any_free else [worker.name for worker in self.workers]

    def facts(self, name: str) -> dict[str, int]:
        """A fact of every worker; empty as soon as one of them does not tell it."""
        return self.sizes(lambda worker: worker.facts.get(name))

    def sizes(self, size_of: Callable[[Worker], int | None]) -> dict[str, int]:
        """What is made of every worker's facts, likewise."""
        sizes = {worker.name: size_of(worker) for worker in self.workers}
        known = {name: int(size) for name, size in sizes.items() if size is not None}
        return known if len(known) == len(sizes) else {}


def check_fits_ever(plan: Mapping[str, Any] | None, fleet: Fleet) -> None:
    """InsufficientDisk for a job whose checkpoints are more than every worker's disks can hold."""
    needs = needs_of(plan)
    for place, words in PLACES.items():
        needed, sizes = needs[f"{place}_bytes"], fleet.facts(f"{place}_total_bytes")
        if needed is not None and sizes and needed > max(sizes.values()):
            raise InsufficientDisk(
                f"The checkpoints of this job take {_gigabytes(needed)} of {words}, which has "
                f"{_gigabytes(max(sizes.values()))} in all. Keep fewer of them "
                "(training.save_total_limit) or save less often (training.save_steps).",
                param="training.save_total_limit",
            )


def lack_of_room(job: Job, fleet: Fleet, *, stored_bytes: int, is_any_running: bool) -> str | None:
    """What a queued job waits for when no worker has room for it now; None when one has.

    `stored_bytes` are those of its checkpoints so far.
    """
    for place, words in PLACES.items():
        needed, sizes = getattr(job, f"{place}_bytes"), fleet.facts(f"{place}_free_bytes")
        if needed is not None and place == "storage":
            needed -= stored_bytes
        if needed is not None and sizes and needed > max(sizes.values()):
            worker = max(sizes, key=lambda name: sizes[name])
            return (
                f"waits for disk space: needs {_gigabytes(needed)} of {words}; "
                f"{worker} has {_gigabytes(sizes[worker])} to spare"
            )
    return _lack_of_memory(job, fleet, is_any_running)


def _lack_of_memory(job: Job, fleet: Fleet, is_any_running: bool) -> str | None:
    needed, totals = job.memory_bytes, fleet.sizes(memory_of)
    if needed is None or not totals:
        return None
    largest = max(totals, key=lambda name: totals[name])
    if needed > totals[largest]:
        return (
            f"fits on no worker: by the plan it takes {_gigabytes(needed)} of memory, and "
            f"{largest} has {_gigabytes(totals[largest])} in all. {_way_out(job)}"
        )
    free = fleet.facts("memory_free_bytes")
    if free and needed > max(free.values()) and not is_any_running:
        worker = max(free, key=lambda name: free[name])
        return (
            f"waits for memory: by the plan it takes {_gigabytes(needed)}; "
            f"{worker} has {_gigabytes(free[worker])} to spare"
        )
    return None


def _way_out(job: Job) -> str:
    change = (job.plan or {}).get("change")
    if change is None:
        return "No change makes it fit: take a smaller model, or add a larger worker."
    return (
        f"It fits with {change['text']}; or set resources.memory, and the split is found in the run"
    )


def stored_bytes(session: Session, jobs: Iterable[Job]) -> dict[str, int]:
    """What the checkpoints of these jobs take, by job; those that have none are not there."""
    query = (
        select(Checkpoint.job_id, func.sum(Checkpoint.size_bytes))
        .where(Checkpoint.job_id.in_([job.id for job in jobs]))
        .group_by(Checkpoint.job_id)
    )
    return {job_id: int(size) for job_id, size in session.execute(query)}


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"
