"""Memory that runs out over what no batch makes smaller: said at once, with what helps."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core.failure import Failure
from core.jobs import list_attempts
from core.states import FailureReason, JobStatus
from tests.conftest import ON_SQLITE
from tests.worker.conftest import Bench
from worker.advice import with_advice

pytestmark = pytest.mark.training

LIMIT_BYTES = 1000 * 1000**2
LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}
"""200 million parameters: more than the limit in floats, little in 4 bits."""


@pytest.fixture
def large(models: Path) -> Path:
    """A model of zeros, which takes no room on the disk."""
    folder = models / "large"
    if folder.exists():
        return folder
    shutil.copytree(models / "tiny-llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("head_dim", None)
    (folder / "config.json").write_text(json.dumps(config | LARGE))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in model.state_dict().items():
        begin, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return folder


@ON_SQLITE
def test_a_model_too_large_to_load_fails_at_once_with_the_change_that_helps(
    bench: Bench, large: Path
) -> None:
    """Smaller micro-batches would only load it again, and fail again."""
    job = bench.submit(
        model=f"local/{large.name}",
        training={"per_device_train_batch_size": 8},
        resources={"memory": LIMIT_BYTES},
    )
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("out_of_memory", "model")
    assert job.error["message"] == "There was not enough memory to load the model."
    assert "There is room for 1.00 GB" in job.error["suggestion"]
    assert "With LoRA on a base in 4 bits" in job.error["suggestion"]
    with bench.database.read() as session:
        (attempt,) = list_attempts(session, job.id)
    assert attempt.error is not None
    evidence = attempt.error["evidence"]
    assert evidence["depends_on_batch"] is False
    assert evidence["advice"]["fixed_bytes"] > LIMIT_BYTES
    assert evidence["advice"]["change"]["quantization"] == {"load_in_4bit": True}


@pytest.fixture
def advised(large: Path) -> Callable[..., Failure]:
    """Advice on a killed training of the large model, within a limit."""

    def advise(limit_bytes: int, *, own: bool = True, **evidence: Any) -> Failure:
        killed = Failure(
            reason=FailureReason.OUT_OF_MEMORY,
            message="The kernel killed the training.",
            evidence={"step": 0, "memory_limit_bytes": limit_bytes if own else None} | evidence,
        )
        order = {
            "public_model": "local/large",
            "model_dir": str(large),
            "training": {"per_device_train_batch_size": 8, "max_length": 128},
            "peft": None,
            "quantization": None,
            "eval": None,
            "device": "cpu",
        }
        return with_advice(killed, order, limit_bytes)

    return advise


def test_gradients_and_optimizer_that_cannot_fit_are_no_matter_of_the_batch(
    advised: Callable[..., Failure],
) -> None:
    """It loads, and is killed in its first step; without any rows it would take 3.7 GB."""
    failure = advised(2 * 1000**3, depends_on_batch=True)

    assert failure.evidence is not None
    assert failure.evidence["depends_on_batch"] is False
    assert "A smaller micro-batch does not help" in (failure.suggestion or "")
    assert failure.evidence["advice"]["change"]["peft"] == {"r": 8, "target_modules": "all-linear"}
    assert "quantization" not in failure.evidence["advice"]["change"]


@pytest.mark.parametrize(
    ("limit_bytes", "step"), [(5 * 1000**3, 0), (2 * 1000**3, 7)], ids=["room", "has trained"]
)
def test_where_the_fixed_part_may_fit_smaller_batches_are_tried(
    advised: Callable[..., Failure], limit_bytes: int, step: int
) -> None:
    failure = advised(limit_bytes, depends_on_batch=True, step=step)

    assert failure.evidence is not None
    assert failure.evidence["depends_on_batch"] is True
    assert "does not help" not in (failure.suggestion or "")


def test_a_model_that_others_left_no_memory_for_is_no_matter_of_its_settings(
    advised: Callable[..., Failure],
) -> None:
    failure = advised(64 * 1000**3, own=False, depends_on_batch=False)

    assert failure.evidence is not None
    assert "advice" not in failure.evidence
    assert "something else held them" in (failure.suggestion or "")
