"""A training whose numbers stop being finite: it fails, or goes back once and on more slowly."""

from typing import Any

import pytest

from core.events import read_metrics
from core.jobs import get_job, list_attempts
from core.models import Job
from core.states import JobStatus, Outcome
from tests.worker.conftest import Bench

pytestmark = pytest.mark.training

STEEP = 1e4
"""No user may ask for so much. It is reached by a warm-up, and a tenth of it stays finite."""


def submit_steep(bench: Bench, **body: Any) -> Job:
    job = bench.submit(training={"max_steps": 6, "save_steps": 2, "warmup_steps": 6}, **body)
    with bench.database.write() as session:
        job = get_job(session, job.id)
        job.training = job.training | {"learning_rate": STEEP}
    return job


def rates(bench: Bench, job_id: str) -> dict[int, float]:
    with bench.database.read() as session:
        metrics = read_metrics(session, job_id)
    return dict(zip(metrics["step"], metrics["learning_rate"], strict=True))


def test_it_fails_with_the_step_and_the_last_good_checkpoint(bench: Bench) -> None:
    job = submit_steep(bench)
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "non_finite_loss"
    assert "at step 4" in job.error["message"]
    assert "The last good checkpoint is that of step 2." in job.error["message"]
    with bench.database.read() as session:
        evidence = list_attempts(session, job.id)[0].error["evidence"]
    assert evidence["last_good_checkpoint"] == f"jobs/{job.id}.step-2"
    assert evidence["exit_code"] == 1
    assert evidence["peak_memory_bytes"] > 0
    assert evidence["available_memory_bytes"] > 0


def test_a_rollback_really_trains_more_slowly(bench: Bench) -> None:
    job = submit_steep(bench, on_non_finite="rollback")
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert job.training["learning_rate"] == 1e3
    assert job.rollback == {
        "failed_step": 4,
        "to_step": 2,
        "learning_rate_before": 1e4,
        "learning_rate": 1e3,
    }
    with bench.database.read() as session:
        attempts = list_attempts(session, job.id)
    assert [attempt.outcome for attempt in attempts] == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert attempts[1].resumed_from_step == 2
    found = rates(bench, job.id)
    slope = found[2] / 1
    assert [found[step] for step in (3, 4, 5, 6)] == pytest.approx(
        [slope * (step - 1) / 10 for step in (3, 4, 5, 6)]
    )
    assert any("Going back to step 2" in event.message for event in bench.events(job.id))
