"""What to do when a training's numbers stop being finite: go back once, and go on more slowly."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from core.failure import Failure
from core.models import Checkpoint, Job
from core.resuming import mark_diverged, resumable

LEARNING_RATE_FACTOR = 0.1
"""Of the learning rate that led to it; there is one try, so it is a large change."""
DEFAULT_LEARNING_RATE = 2e-5
"""SFTConfig's own."""


@dataclass(frozen=True, slots=True)
class Rollback:
    """Changed trainer arguments, the note that stays on the job, and the change in words."""

    training: dict[str, Any]
    note: dict[str, Any]
    change: str


def explain_divergence(session: Session, job: Job, failure: Failure) -> Failure:
    """The failure with the checkpoint before it, and later ones marked: they lead to it again.

    A step's numbers follow from the weights before it, so a checkpoint of that very state is
    as useless as the failed step.
    """
    step = int((failure.evidence or {}).get("step", job.step))
    mark_diverged(session, job, step=step)
    good = _last_good(session, job)
    where, name = "There is no checkpoint from before.", None
    if good is not None:
        where = f"The last good checkpoint is that of step {good.step}."
        name = f"jobs/{good.job_id}.step-{good.step}"
    evidence = (failure.evidence or {}) | {"step": step, "last_good_checkpoint": name}
    return replace(failure, message=f"{failure.message} {where}", evidence=evidence)


def roll_back(session: Session, job: Job, failure: Failure) -> Rollback | None:
    """How the next attempt is to differ; None when the user did not ask, or it was done before."""
    if job.spec.get("on_non_finite") != "rollback" or job.rollback is not None:
        return None
    good = _last_good(session, job)
    before = _learning_rate(job)
    after = before * LEARNING_RATE_FACTOR
    to_step = good.step if good else 0
    note = {
        "failed_step": (failure.evidence or {})["step"] + 1,
        "to_step": to_step,
        "learning_rate_before": before,
        "learning_rate": after,
    }
    change = (
        f"Going back to step {to_step} with a learning rate of {after:g} in place of {before:g}"
    )
    return Rollback({**job.training, "learning_rate": after}, note, change)


def _last_good(session: Session, job: Job) -> Checkpoint | None:
    return next(iter(resumable(session, job)), None)


def _learning_rate(job: Job) -> float:
    used = (job.resolved or {}).get("training", {})
    given = job.training.get("learning_rate", used.get("learning_rate"))
    return float(given if given is not None else DEFAULT_LEARNING_RATE)
