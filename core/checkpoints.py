"""Checkpoints: rows with a manifest, published after their bytes are stored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core.errors import CheckpointNotFound
from core.events import NewEvent
from core.hub.tree import commit_id
from core.ids import new_id
from core.models import Checkpoint, Job
from core.queue import Lease, held_job, record
from core.states import EventKind, Level

Part = Literal["weights", "state"]

STATE_FILES = frozenset(
    {"optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "trainer_state.json"}
)
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
"""Suffixes of files that run code when they are loaded; nobody takes those home."""


MAX_LISTED = 100_000


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One file of a checkpoint: `path` is relative, with `/`."""

    path: str
    size_bytes: int
    sha256: str
    part: Part


def part_of(path: str) -> Part:
    """Whether a file of a checkpoint is weights to take home or state to resume from."""
    return "state" if path in STATE_FILES or path.endswith(PICKLES) else "weights"


def revision_of(job_id: str, step: int, manifest: Iterable[ManifestEntry]) -> str:
    """The commit that stands for these weights for ever: 40 hex digits."""
    files = ((entry.path, entry.sha256) for entry in manifest if entry.part == "weights")
    return commit_id(f"jobs/{job_id}.step-{step}", files)


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
    were found corrupt, is replaced. To publish the same again is harmless.
    """
    held_job(session, lease)
    same = (Checkpoint.job_id == lease.job_id, Checkpoint.step == step)
    done = session.scalar(select(Checkpoint).where(*same, Checkpoint.attempt == lease.attempt))
    if done is not None:
        return done
    size = sum(entry.size_bytes for entry in manifest)
    event = NewEvent(
        kind=EventKind.CHECKPOINT,
        message=f"Checkpoint created at step {step}",
        data={"step": step, "size_bytes": size},
    )
    record(session, lease, [event], now=now)
    session.execute(delete(Checkpoint).where(*same))
    checkpoint = Checkpoint(
        id=new_id("ftckpt_"),
        job_id=lease.job_id,
        step=step,
        attempt=lease.attempt,
        created_at=now,
        prefix=checkpoint_prefix(lease.job_id, lease.attempt, step),
        manifest=[asdict(entry) for entry in manifest],
        revision=revision_of(lease.job_id, step, manifest),
        metrics=metrics,
        size_bytes=size,
    )
    session.add(checkpoint)
    session.flush()
    return checkpoint


def drop_surplus(session: Session, job: Job) -> list[str]:
    """Forget the oldest checkpoints beyond the job's save_total_limit; the prefixes of their bytes.

    The newest is always kept, and so is the best when load_best_model_at_end asks for one.
    """
    limit = job.training.get("save_total_limit")
    if limit is None:
        return []
    found = list_checkpoints(session, job.id, limit=MAX_LISTED)
    kept = {checkpoint.id for checkpoint in found[: max(1, limit)]}
    best = best_checkpoint(found, job.training)
    if best is not None and job.training.get("load_best_model_at_end"):
        # The best one takes the place of the oldest that would be kept, as the trainer does it.
        kept = {checkpoint.id for checkpoint in found[: max(1, limit - (best.id not in kept))]}
        kept.add(best.id)
    surplus = [checkpoint for checkpoint in found if checkpoint.id not in kept]
    for checkpoint in surplus:
        session.delete(checkpoint)
    return [checkpoint.prefix for checkpoint in surplus]


def best_checkpoint(
    checkpoints: Sequence[Checkpoint], training: Mapping[str, Any]
) -> Checkpoint | None:
    """The one that evaluated best by metric_for_best_model; None when none was evaluated."""
    name = str(training.get("metric_for_best_model") or "loss").removeprefix("eval_")
    metric = f"valid_{name}"
    greater = training.get("greater_is_better")
    sign = 1 if (greater if greater is not None else name != "loss") else -1
    evaluated = [item for item in checkpoints if metric in item.metrics]
    return max(evaluated, key=lambda item: sign * item.metrics[metric], default=None)


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
