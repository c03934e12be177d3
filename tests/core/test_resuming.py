"""Where a retry goes on from, and that there is something left to train."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.errors import InvalidArgument, InvalidState
from core.failure import Failure
from core.jobs import cancel_job, delete_job, submit_job
from core.models import Job
from core.queue import fail_attempt
from core.resuming import beginning_of_retry, last_step, lineage, resumable
from core.spec import ResolvedSpec
from core.states import FailureReason
from core.submission import retry_spec
from tests.core.test_rollback import claim, diverge, make_training, publish
from tests.factories import NOW, POLICY

ROWS = 100
BAD = Failure(reason=FailureReason.INVALID_TRAINING_FILE, message="Line 3 is not JSON.")


def retried(session: Session, job: Job, **training: Any) -> Job:
    """A retry of a job, in the queue."""
    spec = retry_spec(session, job, training)
    resolved = ResolvedSpec(
        training=dict(spec.training),
        base_model="newest",
        seed=42,
        max_attempts=3,
        warnings=(),
    )
    return submit_job(session, spec, resolved, now=NOW, ring=lambda: None, retry_of=job.id)


def failed(session: Session, *steps: int, **fields: Any) -> Job:
    """A job that has failed after these checkpoints."""
    job, lease = make_training(session, *steps, **fields)
    job.data_report = {"train": {"sequences": ROWS}}
    fail_attempt(session, lease, BAD, now=NOW, policy=POLICY)
    return job


def steps_of(session: Session, job: Job) -> list[int]:
    return [checkpoint.step for checkpoint in resumable(session, job)]


def test_a_retry_of_a_retry_goes_on_from_the_checkpoint_that_that_was_given(
    session: Session,
) -> None:
    """No step that was trained is lost because the job between never came to one."""
    first = failed(session, 2, 4)
    between = retried(session, first)
    cancel_job(session, between, now=NOW)

    last = retried(session, between)

    assert list(lineage(session, last)) == [last.id, between.id, first.id]
    assert steps_of(session, last) == [4, 2]
    begin = beginning_of_retry(session, between)
    assert begin is not None
    assert begin.job_id == first.id


def test_its_own_checkpoints_come_first_and_those_before_stay(session: Session) -> None:
    again = retried(session, failed(session, 2, 4))
    lease = claim(session)
    publish(session, lease, 6)

    assert steps_of(session, again) == [6, 4, 2]
    diverge(session, lease, step=4)
    assert steps_of(session, again) == [2]


def test_a_retry_is_of_the_same_model(session: Session) -> None:
    first = failed(session, 2)
    first.model_revision = "c0ffee"

    again = retried(session, first)

    assert (again.base_model, again.model_revision) == (first.base_model, "c0ffee")


def test_what_a_retry_of_a_retry_needs_is_not_deleted(session: Session) -> None:
    first = failed(session, 2)
    between = retried(session, first)
    cancel_job(session, between, now=NOW)
    last = retried(session, between)

    for job in (first, between):
        with pytest.raises(InvalidState, match=last.id):
            delete_job(session, job, delete_bytes=lambda prefix: None)


def test_where_the_job_between_is_deleted_its_origin_is_that_of_its_retries(
    session: Session,
) -> None:
    first = failed(session, 2)
    between = retried(session, first)
    cancel_job(session, between, now=NOW)
    last = retried(session, between)
    cancel_job(session, last, now=NOW)

    delete_job(session, between, delete_bytes=lambda prefix: None)

    session.refresh(last)
    assert steps_of(session, last) == [2]


@pytest.mark.parametrize(
    ("training", "changes", "steps"),
    [
        # 100 rows in steps of 8 are 13 steps.
        ({"num_train_epochs": 3}, {"num_train_epochs": 2}, 26),
        ({"num_train_epochs": 3}, {"num_train_epochs": 1.5}, 26),
        ({"max_steps": 40}, {"max_steps": -1, "num_train_epochs": 2}, 26),
        ({"num_train_epochs": 2}, {}, 26),
        ({}, {}, 39),
    ],
)
def test_a_retry_of_too_few_epochs_is_refused(
    session: Session, training: dict[str, Any], changes: dict[str, Any], steps: int
) -> None:
    """It would "succeed" at once, without a checkpoint."""
    done = failed(session, steps, training=training)

    with pytest.raises(InvalidArgument, match=f"jobs/{done.id}.step-{steps}") as refused:
        retry_spec(session, done, changes)

    assert refused.value.param == "training.num_train_epochs"
    assert f"checkpoint of step {steps}" in refused.value.message
    before = failed(session, steps - 1, training=training)
    if changes.get("num_train_epochs") != 1.5:
        assert retried(session, before, **changes).retry_of == before.id


def test_too_few_epochs_are_counted_where_the_checkpoint_was_made(session: Session) -> None:
    first = failed(session, 30, training={"num_train_epochs": 3})
    between = retried(session, first)
    cancel_job(session, between, now=NOW)

    with pytest.raises(InvalidArgument, match=f"jobs/{first.id}.step-30"):
        retry_spec(session, between, {"num_train_epochs": 2})


@pytest.mark.parametrize(
    "changes",
    [
        {"num_train_epochs": "auto"},
        {"num_train_epochs": 1, "packing": True},
        {"num_train_epochs": 1, "max_steps": 31},
    ],
)
def test_what_cannot_be_counted_is_not_refused(session: Session, changes: dict[str, Any]) -> None:
    first = failed(session, 30, training={"num_train_epochs": 3})

    assert retried(session, first, **changes).retry_of == first.id


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({}, 39),
        ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}, 51),
        (
            {
                "per_device_train_batch_size": 3,
                "gradient_accumulation_steps": 2,
                "num_train_epochs": 0.5,
                "dataloader_drop_last": True,
            },
            9,
        ),
        ({"per_device_train_batch_size": 256, "dataloader_drop_last": True}, 3),
    ],
)
def test_the_last_step_is_counted_as_the_trainer_does(training: dict[str, Any], steps: int) -> None:
    assert last_step(training, ROWS) == steps
