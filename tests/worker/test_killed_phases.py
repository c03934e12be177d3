"""Through the whole worker, on both databases: a kill in any phase changes no number, no weight."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.checkpoints import entries, list_checkpoints
from core.models import Job
from core.states import EventKind, JobStatus, Outcome
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import outcomes, training_children, working

pytestmark = pytest.mark.training

STEPS = 12
TRIES = 8
TRAINING = {"max_steps": STEPS, "save_steps": 4}
LORA = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1}
Reached = Callable[[Bench, str], bool]


def is_loading(bench: Bench, job_id: str) -> bool:
    return bench.job(job_id).phase != "train" and bool(training_children())


def is_saving(bench: Bench, job_id: str) -> bool:
    """The first file of the second checkpoint is there; the others are being written."""
    attempts = Path(bench.settings.scratch_folder / "attempts")
    return any(attempts.rglob("checkpoint-8/*.safetensors"))


def is_in_last_step(bench: Bench, job_id: str) -> bool:
    return any(
        event.kind is EventKind.METRICS and event.data["step"] == STEPS - 1
        for event in bench.events(job_id)
    )


@pytest.mark.parametrize(
    ("reached", "model", "peft"),
    [
        pytest.param(is_loading, "tiny-opt", None, id="before the first step"),
        pytest.param(is_saving, "tiny-llama", LORA, id="in a save"),
        pytest.param(is_in_last_step, "tiny-opt", None, id="in the last step"),
    ],
)
def test_a_job_killed_in_any_phase_is_the_job_that_was_left_alone(
    bench: Bench, reached: Reached, model: str, peft: dict[str, Any] | None
) -> None:
    body = {"model": f"local/{model}", "training": TRAINING, "peft": peft}
    calm = bench.submit(**body)
    with working(bench.runtime()) as thread:
        thread.join()

    killed = submit_and_kill(bench, body, reached)

    assert outcomes(bench, killed.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert bench.job(killed.id).status is JobStatus.SUCCEEDED
    assert bench.losses(killed.id) == bench.losses(calm.id)
    assert weights(bench, killed.id) == weights(bench, calm.id)


def submit_and_kill(bench: Bench, body: dict[str, Any], reached: Reached) -> Job:
    """A job killed in that phase; another one where the phase was over before the kill came."""
    pause = threading.Event()
    for _ in range(TRIES):
        job = bench.submit(**body)
        with working(bench.runtime()) as thread:
            while thread.is_alive() and not reached(bench, job.id):
                pause.wait(0.002)
            for child in training_children():
                child.kill()
            thread.join()
        if outcomes(bench, job.id) != [Outcome.SUCCEEDED]:
            return job
    raise AssertionError(f"{TRIES} jobs were over before they could be killed")


def weights(bench: Bench, job_id: str) -> str:
    """SHA-256 of the weights of the last checkpoint."""
    with bench.database.read() as session:
        last = list_checkpoints(session, job_id)[0]
        found = {entry.path: entry.sha256 for entry in entries(last, "weights")}
    files = sorted(name for name in found if name.endswith(".safetensors"))
    return hashlib.sha256("".join(found[name] for name in files).encode()).hexdigest()
