"""Through the whole worker, on both databases: a kill in any phase changes no number, no weight."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.checkpoints import entries, list_checkpoints
from core.states import EventKind, JobStatus, Outcome
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import outcomes, training_children, working

pytestmark = pytest.mark.training

STEPS = 12
TRAINING = {"max_steps": STEPS, "save_steps": 4}
LORA = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1}
Reached = Callable[[Bench, str], bool]


def is_loading(bench: Bench, job_id: str) -> bool:
    return bench.job(job_id).phase == "load" and bool(training_children())


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
    killed = bench.submit(**body)
    pause = threading.Event()

    with working(bench.runtime()) as thread:
        while not reached(bench, killed.id):
            pause.wait(0.002)
        for child in training_children():
            child.kill()
        thread.join()

    assert outcomes(bench, killed.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert bench.job(killed.id).status is JobStatus.SUCCEEDED
    assert bench.losses(killed.id) == bench.losses(calm.id)
    assert weights(bench, killed.id) == weights(bench, calm.id)


def weights(bench: Bench, job_id: str) -> str:
    """SHA-256 of the weights of the last checkpoint."""
    with bench.database.read() as session:
        last = list_checkpoints(session, job_id)[0]
        found = {entry.path: entry.sha256 for entry in entries(last, "weights")}
    files = sorted(name for name in found if name.endswith(".safetensors"))
    return hashlib.sha256("".join(found[name] for name in files).encode()).hexdigest()
