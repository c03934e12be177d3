"""The machines that train, as they last described themselves, and whether they may claim."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import after_commit
from core.errors import WorkerNotFound
from core.models import Worker

_LAST_SEEN_FIRST = select(Worker).order_by(Worker.heartbeat_at.desc())


def list_workers(session: Session) -> Sequence[Worker]:
    """The workers, the one that was seen last first."""
    return session.scalars(_LAST_SEEN_FIRST).all()


def get_worker(session: Session, name: str) -> Worker:
    """The worker of this name, or WorkerNotFound."""
    worker = session.get(Worker, name)
    if worker is None:
        raise WorkerNotFound(f"No such worker: {name}", param="worker_id")
    return worker


def drain_worker(session: Session, name: str, *, now: datetime) -> Worker:
    """Let a worker claim nothing more; what it runs goes on. Twice is harmless."""
    worker = get_worker(session, name)
    worker.drained_at = worker.drained_at or now
    return worker


def undrain_worker(session: Session, name: str, *, ring: Callable[[], None]) -> Worker:
    """Let a worker claim again; it is rung once that is committed."""
    worker = get_worker(session, name)
    worker.drained_at = None
    after_commit(session, ring)
    return worker


def is_drained(session: Session, name: str) -> bool:
    """Whether the worker of this name is to claim nothing; one that nobody knows may claim."""
    query = select(Worker.drained_at).where(Worker.name == name)
    return session.scalar(query) is not None


def cpus_of(worker: Worker | None) -> int:
    """Cores for one of its jobs; two where there is no worker."""
    return 2 if worker is None else max(1, int(worker.facts.get("cpus", 2)) // worker.slots)


def memory_of(worker: Worker) -> int | None:
    """Bytes of the memory in which it trains: its first GPU's, or its own; None where untold."""
    on_gpu = worker.facts.get("device") == "cuda"
    total = worker.facts.get("device_memory_bytes" if on_gpu else "memory_bytes")
    return None if total is None else int(total)
