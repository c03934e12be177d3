"""What was predicted beside what was measured, for each attempt that finished.

An outcome speaks only for its like. What is fixed (a runtime of 470 MB, the calls of small
operations) is nearly all that a tiny model takes, and nearly nothing of a large one: how far off
the arithmetic was there says nothing here. So of the outcomes within a factor of ALIKE the nearest
in size are taken; a plan that has none stays as it was computed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, literal, select, union_all
from sqlalchemy.orm import Session

from core.model_facts import ModelFacts
from core.models import Checkpoint, Job, PlanOutcome, Worker
from core.plan.options import Experience
from core.plan.settings import TrainSettings
from core.plan.trained import Trained
from core.refit import effective_batch
from core.workers import cpus_of

RUNS = 50
"""The newest so many are looked at."""
NEAREST = 9
"""So many of them, the nearest in size, have a say."""
ALIKE = 3
"""Of more than so many times the parameters, the tokens of a row or of a step, it is another."""
LEAST, MOST = 0.67, 1.5
"""A correction beyond these would hide a mistake in the model."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a training child reports at its end."""

    peak_memory_bytes: int | None
    seconds_per_step: float | None


def learned(
    session: Session, facts: ModelFacts, settings: TrainSettings, *, worker: str | None
) -> Experience:
    """What runs of this family, method and size say.

    Memory is told by rows of like length, time by like steps of this worker.
    """
    sizes = {
        "parameters": facts.parameters,
        "longest_tokens": settings.length,
        "step_tokens": settings.step_tokens,
    }
    given: dict[str, Any] = {"family": facts.family, "method": settings.method, "worker": worker}
    given |= {f"least_{name}": size / ALIKE for name, size in sizes.items()}
    given |= {f"most_{name}": size * ALIKE for name, size in sizes.items()}
    rows = session.execute(_ALIKE, given).all()
    weighed = _nearest(rows, sizes, "longest_tokens")
    timed = _nearest(rows, sizes, "step_tokens")
    memory = [_memory_ratio(row) for row in weighed]
    seconds = [row.measured_seconds_per_step / row.raw_seconds_per_step for row in timed]
    return Experience(
        memory=min(MOST, max(LEAST, median(memory))) if memory else 1.0,
        runs=len(memory),
        seconds=median(seconds) if seconds else 1.0,
        timed_runs=len(seconds),
    )


def _newest(by: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    """The newest outcomes that are alike in parameters and in the size `by`."""
    table = PlanOutcome
    near = [
        getattr(table, name).between(bindparam(f"least_{name}"), bindparam(f"most_{name}"))
        for name in ("parameters", by)
    ]
    rows = (
        select(
            literal(by).label("alike_by"),
            table.parameters,
            table.longest_tokens,
            table.step_tokens,
            table.is_filled,
            table.raw_memory_bytes,
            table.measured_memory_bytes,
            table.raw_seconds_per_step,
            table.measured_seconds_per_step,
        )
        .where(table.family == bindparam("family"), table.method == bindparam("method"))
        .where(*conditions, *near)
        .order_by(table.created_at.desc())
        .limit(RUNS)
    )
    return select(rows.subquery())


_ALIKE = union_all(
    _newest("longest_tokens", PlanOutcome.measured_memory_bytes.is_not(None)),
    _newest(
        "step_tokens",
        PlanOutcome.worker == bindparam("worker"),
        PlanOutcome.measured_seconds_per_step.is_not(None),
    ),
)
"""What `learned` looks at, for both of its questions."""


def _nearest(rows: Sequence[Row[Any]], sizes: Mapping[str, int], by: str) -> list[Row[Any]]:
    """Of the outcomes that are alike in parameters and in the size `by`, those most alike."""

    def distance(row: Row[Any]) -> float:
        return max(abs(math.log(getattr(row, name) / sizes[name])) for name in ("parameters", by))

    return sorted((row for row in rows if row.alike_by == by), key=distance)[:NEAREST]


def _memory_ratio(row: Row[Any]) -> float:
    """Measured by predicted. Too low is the dangerous side, so not all may lower a plan.

    Uneven or masked rows leave the predicted micro-batch unfilled: what they took less is due to
    the data, and the next data may be others. They say only that the plan was not too low.
    """
    ratio: float = row.measured_memory_bytes / row.raw_memory_bytes
    return ratio if row.is_filled else max(1.0, ratio)


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
    plan, report = job.plan, job.data_report
    # A plan from before there was a basis cannot be compared with its rows.
    if plan is not None and report is not None and "basis" in plan and _is_as_planned(job, plan):
        trained = Trained.of(plan["basis"], job.training, report)
        peak = trained.peak_bytes
        seconds = trained.seconds_per_step(cpus=cpus_of(session.get(Worker, worker)))
        correction = plan["correction"]
        session.merge(
            PlanOutcome(
                job_id=job.id,
                attempt=job.attempt,
                created_at=now,
                worker=worker,
                family=plan["family"],
                method=plan["method"],
                parameters=trained.facts.parameters,
                longest_tokens=trained.settings.length,
                step_tokens=trained.settings.step_tokens,
                is_filled=trained.is_filled,
                raw_memory_bytes=peak,
                predicted_memory_bytes=round(peak * correction["peak_memory"]),
                measured_memory_bytes=measured.peak_memory_bytes,
                raw_seconds_per_step=seconds,
                predicted_seconds_per_step=seconds * correction["seconds_per_step"],
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
    """How good the plans have been: by family and method, and the newest runs one by one.

    Predicted is for the rows that were trained, corrected as the plan was; what the user was told
    before, for rows of max_length, is the job's `plan`.
    """
    is_like = PlanOutcome.parameters.is_not(None)
    query = select(PlanOutcome).where(is_like).order_by(PlanOutcome.created_at.desc())
    rows = session.scalars(query.limit(1000)).all()
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
        "parameters": row.parameters,
        "longest_row_tokens": row.longest_tokens,
        "is_filled": row.is_filled,
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
