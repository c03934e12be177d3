"""A job trains exactly what the same arguments train without this service."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import TRAINING, OrderFactory
from tests.training.running import run_child
from worker.forkserver import child_environment

pytestmark = pytest.mark.training

LORA = {"r": 4, "target_modules": "all-linear", "lora_dropout": 0.1}
PACKED = {"packing": True, "max_length": 128, "per_device_train_batch_size": 2}
COMMON = TRAINING | {"eval_strategy": "steps", "eval_steps": 3, "weight_decay": 0.01}
NAMES = {
    "loss": "train_loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "mean_token_accuracy": "train_mean_token_accuracy",
    "entropy": "train_entropy",
    "num_tokens": "num_tokens",
    "eval_loss": "valid_loss",
    "eval_mean_token_accuracy": "valid_mean_token_accuracy",
    "eval_entropy": "valid_entropy",
}

CASES: dict[str, dict[str, Any]] = {
    f"{family}-{method}-{data}": {
        "family": family,
        "peft": LORA if method == "lora" else None,
        "training": COMMON | (PACKED if data == "packed" else {}),
    }
    for family in ("opt", "llama")
    for method in ("full", "lora")
    for data in ("padded", "packed")
}


@pytest.fixture(scope="session")
def bare_logs(
    models: Path, text_file: Path, eval_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[dict[str, float]]]:
    """What the bare script logs for each case."""
    folder = tmp_path_factory.mktemp("bare")
    cases = [
        {
            "model": str(models / case["family"]),
            "train": str(text_file),
            "eval": str(eval_file),
            "output": str(folder / name),
            "seed": 7,
            "training": {k: v for k, v in case["training"].items() if k != "save_steps"},
            "peft": case["peft"],
        }
        for name, case in CASES.items()
    ]
    environment = child_environment(scratch=folder)
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bare_script.py"))],
        input=json.dumps(cases).encode(),
        env=environment | {"PATH": os.environ["PATH"]},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    line = next(text for text in result.stdout.splitlines() if text.startswith(b"RESULT "))
    return dict(zip(CASES, json.loads(line.removeprefix(b"RESULT ")), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_every_step_equals_that_of_a_bare_script(
    name: str, bare_logs: Any, make_order: OrderFactory, eval_file: Path
) -> None:
    case = CASES[name]
    order = make_order(
        case["family"],
        training=case["training"],
        peft=case["peft"],
        eval={"kind": "jsonl", "path": str(eval_file)},
    )

    run = run_child(order)

    assert run.exit_code == 0, run.log.decode()
    for theirs, ours in NAMES.items():
        expected = {log["step"]: log[theirs] for log in bare_logs[name] if theirs in log}
        assert len(expected) >= 2
        assert run.metric(ours) == pytest.approx(expected, abs=1e-4), ours


@pytest.mark.parametrize(("rows", "accumulation"), [(8, 4), (32, 1), (1, 32)])
def test_how_a_batch_is_split_does_not_change_the_losses(
    make_order: OrderFactory, rows: int, accumulation: int
) -> None:
    """4 x 8 is the reference; without dropout all splits of 32 rows are one training."""
    reference = run_child(make_order(training=_split(4, 8)))

    run = run_child(make_order(training=_split(rows, accumulation)))

    assert len(run.metric("train_loss")) == 4
    for name in ("train_loss", "grad_norm"):
        assert run.metric(name) == pytest.approx(reference.metric(name), abs=1e-5), name


def _split(rows: int, accumulation: int) -> dict[str, Any]:
    split = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
    return split | {"max_steps": 4, "save_strategy": "no"}
