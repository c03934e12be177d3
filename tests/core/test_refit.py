"""Out of memory: the same effective batch in smaller pieces, until nothing is left to change."""

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from core.failure import Failure
from core.queue import claim_job, fail_attempt
from core.refit import refit
from core.states import FailureReason, JobStatus
from tests.factories import NOW, POLICY, later, make_attempt

OOM = Failure(reason=FailureReason.OUT_OF_MEMORY, message="Needed 25.1 GiB of 24.0.")
EVAL_OOM = Failure(
    reason=FailureReason.OUT_OF_MEMORY, message="Too much.", evidence={"in_evaluation": True}
)


@pytest.mark.parametrize(
    ("batch", "accumulation", "smaller"),
    [
        (32, 1, (16, 2)),
        (4, 8, (2, 16)),
        (3, 2, (1, 6)),
        (6, 1, (3, 2)),
        (15, 1, (5, 3)),
        (7, 3, (1, 21)),
    ],
)
def test_the_effective_batch_stays(batch: int, accumulation: int, smaller: tuple[int, int]) -> None:
    training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}

    changed = refit(training, in_evaluation=False)

    assert changed is not None
    found = changed.training
    assert smaller == (
        found["per_device_train_batch_size"],
        found["gradient_accumulation_steps"],
    )
    assert smaller[0] * smaller[1] == batch * accumulation


def test_the_defaults_are_the_trainers() -> None:
    changed = refit({}, in_evaluation=False)

    assert changed is not None
    assert changed.training == {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


def test_a_job_is_made_smaller_until_nothing_is_left(session: Session) -> None:
    job, lease = make_attempt(session, training={"per_device_train_batch_size": 4}, max_attempts=1)
    seen = []
    while job.status is not JobStatus.FAILED:
        fail_attempt(session, lease, OOM, now=NOW, policy=POLICY)
        seen.append(dict(job.training))
        claimed = claim_job(session, worker="w", now=NOW, lease_seconds=60)
        if claimed is not None:
            lease = claimed[1]

    assert [item.get("per_device_train_batch_size") for item in seen] == [2, 1, 1, 1]
    assert [item.get("activation_checkpointing", False) for item in seen] == [
        False,
        False,
        True,
        True,
    ]
    assert job.error is not None
    assert job.error["code"] == "out_of_memory"


def test_what_no_batch_makes_smaller_fails_at_once(session: Session) -> None:
    failure = replace(OOM, evidence={"depends_on_batch": False}, suggestion="Take LoRA.")
    job, lease = make_attempt(session, training={"per_device_train_batch_size": 4})

    fail_attempt(session, lease, failure, now=NOW, policy=POLICY)

    assert job.status is JobStatus.FAILED
    assert job.training == {"per_device_train_batch_size": 4}
    assert job.error is not None
    assert job.error["suggestion"] == "Take LoRA."


def test_the_change_is_told_and_not_charged(session: Session) -> None:
    job, lease = make_attempt(session, training={"per_device_train_batch_size": 4})

    fail_attempt(session, lease, OOM, now=later(1), policy=POLICY)

    assert job.status is JobStatus.QUEUED
    assert job.num_failed_attempts == 0
    assert claim_job(session, worker="w", now=later(1), lease_seconds=60) is not None


def test_an_evaluation_has_its_own_batch(session: Session) -> None:
    job, lease = make_attempt(session, training={"per_device_eval_batch_size": 8})

    fail_attempt(session, lease, EVAL_OOM, now=later(1), policy=POLICY)

    assert job.training == {"per_device_eval_batch_size": 4}
