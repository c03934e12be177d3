"""Checkpoints: rows with a manifest, published after their bytes are stored."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.errors import CheckpointNotFound
from core.events import NewEvent
from core.ids import new_id
from core.models import Checkpoint
from core.queue import Lease, record
from core.states import EventKind, Level

Part = Literal["weights", "state"]

STATE_FILES = frozenset(
    {"optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "trainer_state.json"}
)
"""What only a resume needs; everything else in a checkpoint is what users take home."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file of a checkpoint: `path` is relative, with `/`."""

    path: str
    size_bytes: int
    sha256: str
    part: Part


def part_of(path: str) -> Part:
    """Whether a file of a checkpoint is weights to take home or state to resume from."""
    return "state" if path in STATE_FILES or path.startswith("rng_state") else "weights"


def checkpoint_prefix(job_id: str, attempt: int, step: int) -> str:
    """Where an attempt stores a checkpoint; no other attempt ever writes there."""
    return f"jobs/{job_id}/attempt-{attempt}/step-{step}"


def publish_checkpoint(
    session: Session,
    lease: Lease,
    *,
    step: int,
    manifest: list[ManifestEntry],
    metrics: dict[str, Any],
    now: datetime,
) -> Checkpoint:
    """Make a checkpoint visible, under the lease. All of its bytes must be stored and verified.

    A step that an earlier attempt published, and that had to be trained again since its bytes
    were found corrupt, is replaced.
    """
    size = sum(entry.size_bytes for entry in manifest)
    event = NewEvent(
        kind=EventKind.CHECKPOINT,
        message=f"Checkpoint created at step {step}",
        data={"step": step, "size_bytes": size},
    )
    record(session, lease, [event], now=now)
    session.execute(
        delete(Checkpoint).where(Checkpoint.job_id == lease.job_id, Checkpoint.step == step)
    )
    checkpoint = Checkpoint(
        id=new_id("ftckpt_"),
        job_id=lease.job_id,
        step=step,
        attempt=lease.attempt,
        created_at=now,
        prefix=checkpoint_prefix(lease.job_id, lease.attempt, step),
        manifest=[asdict(entry) for entry in manifest],
        metrics=metrics,
        size_bytes=size,
    )
    session.add(checkpoint)
    session.flush()
    return checkpoint


def mark_corrupt(
    session: Session, lease: Lease, checkpoint: Checkpoint, *, reason: str, now: datetime
) -> None:
    """Never resume from this checkpoint again, and say so on the job."""
    event = NewEvent(
        kind=EventKind.MESSAGE,
        level=Level.WARN,
        message=f"The checkpoint of step {checkpoint.step} is damaged ({reason}); "
        "going back to the one before",
        data={"step": checkpoint.step},
    )
    record(session, lease, [event], now=now)
    session.execute(
        update(Checkpoint).where(Checkpoint.id == checkpoint.id).values(is_corrupt=True)
    )


def get_checkpoint(session: Session, job_id: str, step: int) -> Checkpoint:
    """The checkpoint of this step, or CheckpointNotFound."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.step == step)
    checkpoint = session.scalar(query)
    if checkpoint is None:
        raise CheckpointNotFound(f"Job {job_id} has no checkpoint of step {step}.", param="step")
    return checkpoint


def list_checkpoints(
    session: Session, job_id: str, *, after: str | None = None, limit: int = 10
) -> list[Checkpoint]:
    """The newest checkpoints first, older than the one whose id is `after`."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id)
    if after is not None:
        last = session.scalar(query.where(Checkpoint.id == after))
        if last is None:
            raise CheckpointNotFound(f"No such checkpoint: {after}", param="after")
        query = query.where(Checkpoint.step < last.step)
    return list(session.scalars(query.order_by(Checkpoint.step.desc()).limit(limit)))


def resumable(session: Session, job_id: str) -> list[Checkpoint]:
    """The checkpoints that an attempt may resume from, the best first. Verify before use."""
    query = select(Checkpoint).where(Checkpoint.job_id == job_id, Checkpoint.is_corrupt.is_(False))
    return list(session.scalars(query.order_by(Checkpoint.step.desc())))


def entries(checkpoint: Checkpoint, part: Part | None = None) -> Iterator[ManifestEntry]:
    """The files of a checkpoint, all or those of one part."""
    for item in checkpoint.manifest:
        entry = ManifestEntry(**item)
        if part is None or entry.part == part:
            yield entry


def find_entry(checkpoint: Checkpoint, path: str) -> ManifestEntry:
    """The file at `path` of a checkpoint; looked up by name, never joined to a folder."""
    entry = next((entry for entry in entries(checkpoint) if entry.path == path), None)
    if entry is None:
        raise CheckpointNotFound(
            f"The checkpoint of step {checkpoint.step} has no file {path!r}.", param="path"
        )
    return entry
