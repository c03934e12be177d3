"""What was predicted beside what was measured, for each attempt that finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.models import Checkpoint, Job, PlanOutcome
from core.plan.options import Experience
from core.refit import effective_batch

RUNS = 50
"""The newest so many count."""
LEAST, MOST = 0.67, 1.5
"""A correction beyond these would hide a mistake in the model."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a training child reports at its end."""

    peak_memory_bytes: int | None
    seconds_per_step: float | None


def learned(session: Session, *, family: str, method: str, worker: str | None) -> Experience:
    """What the newest runs of this family and method say; time only of this worker's runs."""
    query = (
        select(PlanOutcome)
        .where(PlanOutcome.family == family, PlanOutcome.method == method)
        .order_by(PlanOutcome.created_at.desc())
        .limit(RUNS)
    )
    rows = session.scalars(query).all()
    memory = [
        row.measured_memory_bytes / row.raw_memory_bytes
        for row in rows
        if row.measured_memory_bytes
    ]
    seconds = [
        row.measured_seconds_per_step / row.raw_seconds_per_step
        for row in rows
        if row.measured_seconds_per_step and row.worker == worker
    ]
    return Experience(
        memory=min(MOST, max(LEAST, median(memory))) if memory else 1.0,
        runs=len(memory),
        seconds=median(seconds) if seconds else 1.0,
        timed_runs=len(seconds),
    )


def note_outcome(
    session: Session, job: Job, *, worker: str, measured: Measured, now: datetime
) -> dict[str, Any]:
    """Keep what a finished attempt has taken beside its plan; the values for the job."""
    disk = session.scalar(
        select(func.sum(Checkpoint.size_bytes)).where(Checkpoint.job_id == job.id)
    )
    values = {
        "peak_memory_bytes": measured.peak_memory_bytes,
        "seconds_per_step": measured.seconds_per_step,
        "disk_bytes": int(disk or 0),
        "steps": job.total_steps,
    }
    plan = job.plan
    if plan is not None and _is_as_planned(job, plan):
        session.merge(
            PlanOutcome(
                job_id=job.id,
                attempt=job.attempt,
                created_at=now,
                worker=worker,
                family=plan["family"],
                method=plan["method"],
                raw_memory_bytes=plan["raw_memory_bytes"],
                predicted_memory_bytes=plan["peak_memory_bytes"],
                measured_memory_bytes=measured.peak_memory_bytes,
                raw_seconds_per_step=plan["raw_seconds_per_step"],
                predicted_seconds_per_step=plan["seconds_per_step"],
                measured_seconds_per_step=measured.seconds_per_step,
                predicted_disk_bytes=plan["disk_bytes"],
                measured_disk_bytes=values["disk_bytes"],
            )
        )
    return values


def _is_as_planned(job: Job, plan: dict[str, Any]) -> bool:
    """A job that ran out of memory goes on in other pieces than were planned."""
    split = (plan["per_device_train_batch_size"], plan["gradient_accumulation_steps"])
    micro_batch = job.training.get("per_device_train_batch_size", split[0])
    is_same = micro_batch == split[0] and effective_batch(job.training) == split[0] * split[1]
    checkpointing = bool(job.training.get("activation_checkpointing", False))
    return bool(is_same and checkpointing == plan["gradient_checkpointing"])


def accuracy(session: Session) -> dict[str, Any]:
    """How good the plans have been: by family and method, and the newest runs one by one."""
    query = select(PlanOutcome).order_by(PlanOutcome.created_at.desc()).limit(1000)
    rows = session.scalars(query).all()
    groups: dict[tuple[str, str], list[PlanOutcome]] = {}
    for row in rows:
        groups.setdefault((row.family, row.method), []).append(row)
    return {
        "object": "fine_tuning.plan.accuracy",
        "runs": len(rows),
        "groups": [
            {"family": family, "method": method, "runs": len(members), **_errors(members)}
            for (family, method), members in sorted(groups.items())
        ],
        "data": [_shown(row) for row in rows[:RUNS]],
    }


def _errors(rows: Sequence[PlanOutcome]) -> dict[str, Any]:
    memory = [
        row.predicted_memory_bytes / row.measured_memory_bytes - 1
        for row in rows
        if row.measured_memory_bytes
    ]
    seconds = [
        row.predicted_seconds_per_step / row.measured_seconds_per_step - 1
        for row in rows
        if row.measured_seconds_per_step
    ]
    return {"peak_memory": _spread(memory), "seconds_per_step": _spread(seconds)}


def _spread(errors: Sequence[float]) -> dict[str, float] | None:
    """Relative errors of the predictions; below zero is too low."""
    if not errors:
        return None
    sizes = [abs(error) for error in errors]
    return {
        "mean_absolute_error": round(sum(sizes) / len(sizes), 4),
        "lowest": round(min(errors), 4),
        "highest": round(max(errors), 4),
    }


def _shown(row: PlanOutcome) -> dict[str, Any]:
    return {
        "job": row.job_id,
        "attempt": row.attempt,
        "worker": row.worker,
        "family": row.family,
        "method": row.method,
        "predicted": {
            "peak_memory_bytes": row.predicted_memory_bytes,
            "seconds_per_step": row.predicted_seconds_per_step,
            "disk_bytes": row.predicted_disk_bytes,
        },
        "measured": {
            "peak_memory_bytes": row.measured_memory_bytes,
            "seconds_per_step": row.measured_seconds_per_step,
            "disk_bytes": row.measured_disk_bytes,
        },
    }
