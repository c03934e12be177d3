"""A job that is tried again reads the rows that its checkpoints were trained on."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.errors import InvalidArgument
from core.models import Job
from core.states import JobStatus
from core.submission import retry_spec
from tests.factories import make_job

COMMIT = "a" * 40


def failed(session: Session, **dataset: Any) -> Job:
    """A failed job that had begun to train on a Hub dataset."""
    training = {"max_steps": 10, "per_device_train_batch_size": 4}
    job = make_job(
        session,
        training_file=None,
        dataset={"path": "acme/texts", "revision": "main", **dataset},
        training=training,
    )
    job.status, job.data_report = JobStatus.FAILED, {"train": {"revision": COMMIT}}
    session.flush()
    return job


def test_a_retry_reads_the_commit_that_was_trained_on(session: Session) -> None:
    spec = retry_spec(session, failed(session), {"max_steps": 20})

    assert spec.dataset is not None
    assert spec.dataset.revision == COMMIT


def test_the_steps_of_a_streamed_dataset_stay(session: Session) -> None:
    job = failed(session, streaming=True)

    assert retry_spec(session, job, {"learning_rate": 1e-5}).training["max_steps"] == 10
    with pytest.raises(InvalidArgument) as raised:
        retry_spec(session, job, {"max_steps": 20})
    assert raised.value.param == "training.max_steps"
