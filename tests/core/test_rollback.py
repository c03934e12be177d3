"""A loss that is not finite: explained, and on request answered once by going back and slower."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, publish_checkpoint
from core.events import list_events
from core.failure import Failure
from core.jobs import list_attempts, submit_job
from core.models import Job
from core.queue import Lease, claim_job, fail_attempt
from core.resuming import resumable
from core.spec import ResolvedSpec, parse_spec
from core.states import FailureReason, JobStatus, Level
from tests.factories import NOW, POLICY, make_attempt

ENTRY = ManifestEntry("model.safetensors", 1, "0" * 64, "weights")


def make_training(session: Session, *steps: int, **fields: Any) -> tuple[Job, Lease]:
    """A running job with checkpoints of these steps."""
    fields.setdefault("training", {"learning_rate": 0.5})
    job, lease = make_attempt(session, **fields)
    publish(session, lease, *steps)
    return job, lease


def publish(session: Session, lease: Lease, *steps: int) -> None:
    for step in steps:
        publish_checkpoint(session, lease, step=step, manifest=[ENTRY], metrics={}, now=NOW)


def diverge(session: Session, lease: Lease, *, step: int) -> None:
    """The loss of the step after `step` is not a number."""
    failure = Failure(
        reason=FailureReason.NON_FINITE_LOSS,
        message=f"The loss became nan at step {step + 1}.",
        evidence={"step": step},
    )
    fail_attempt(session, lease, failure, now=NOW, policy=POLICY)


def claim(session: Session) -> Lease:
    claimed = claim_job(session, worker="w", now=NOW, lease_seconds=60)
    assert claimed is not None
    return claimed[1]


def test_by_default_the_job_fails_and_names_the_last_good_checkpoint(session: Session) -> None:
    job, lease = make_training(session, 2, 4)

    diverge(session, lease, step=4)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "non_finite_loss"
    assert job.error["message"] == (
        "The loss became nan at step 5. The last good checkpoint is that of step 2."
    )
    evidence = list_attempts(session, job.id)[0].error["evidence"]
    assert evidence["last_good_checkpoint"] == f"jobs/{job.id}.step-2"


def test_without_a_good_checkpoint_it_says_so(session: Session) -> None:
    job, lease = make_training(session, 4)

    diverge(session, lease, step=4)

    assert job.error is not None
    assert job.error["message"].endswith("There is no checkpoint from before.")


def test_a_rollback_goes_back_past_the_weights_that_led_to_it(session: Session) -> None:
    """The numbers of step 5 follow from the checkpoint of step 4, whatever the learning rate."""
    job, lease = make_training(session, 2, 4, on_non_finite="rollback")

    diverge(session, lease, step=4)

    assert job.status is JobStatus.QUEUED
    assert [checkpoint.step for checkpoint in resumable(session, job)] == [2]
    assert job.training == {"learning_rate": 0.05}
    assert job.rollback == {
        "failed_step": 5,
        "to_step": 2,
        "learning_rate_before": 0.5,
        "learning_rate": 0.05,
    }
    assert job.num_failed_attempts == 0
    event = list_events(session, job.id, limit=1)[0]
    assert event.level is Level.WARN
    assert "Going back to step 2 with a learning rate of 0.05 in place of 0.5" in event.message


def test_a_checkpoint_between_is_good(session: Session) -> None:
    job, lease = make_training(session, 2, 4, on_non_finite="rollback")

    diverge(session, lease, step=5)

    assert [checkpoint.step for checkpoint in resumable(session, job)] == [4, 2]


def test_it_is_done_once(session: Session) -> None:
    job, lease = make_training(session, 2, 4, on_non_finite="rollback")
    diverge(session, lease, step=4)

    diverge(session, claim(session), step=3)

    assert job.status is JobStatus.FAILED
    assert job.training == {"learning_rate": 0.05}


def test_the_step_trained_again_is_good_again(session: Session) -> None:
    job, lease = make_training(session, 2, 4, on_non_finite="rollback")
    diverge(session, lease, step=4)

    publish(session, claim(session), 4)

    assert [checkpoint.step for checkpoint in resumable(session, job)] == [4, 2]


def test_without_a_checkpoint_it_begins_again(session: Session) -> None:
    job, lease = make_training(session, on_non_finite="rollback")
    job.step = 3

    diverge(session, lease, step=3)

    assert (job.status, job.step) == (JobStatus.QUEUED, 0)
    assert job.rollback is not None
    assert job.rollback["to_step"] == 0


@pytest.mark.parametrize(
    ("training", "resolved", "before"),
    [({}, None, 2e-5), ({}, {"training": {"learning_rate": 1e-4}}, 1e-4)],
)
def test_a_learning_rate_that_nobody_gave_is_the_trainers(
    session: Session, training: dict[str, Any], resolved: Any, before: float
) -> None:
    job, lease = make_training(session, training=training, on_non_finite="rollback")
    job.resolved = resolved

    diverge(session, lease, step=3)

    assert job.training["learning_rate"] == pytest.approx(before / 10)


def test_a_retry_does_not_go_on_from_the_weights_that_led_to_it(session: Session) -> None:
    job, lease = make_training(session, 2, 4)
    diverge(session, lease, step=4)
    resolved = ResolvedSpec(
        training={}, base_model="local/tiny", seed=42, max_attempts=3, warnings=()
    )

    again = submit_job(
        session, parse_spec(job.spec), resolved, now=NOW, ring=lambda: None, retry_of=job.id
    )

    assert [checkpoint.step for checkpoint in resumable(session, again)] == [2]
