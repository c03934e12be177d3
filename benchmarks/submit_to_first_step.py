"""How long a small job takes to its first optimizer step, against `trl sft` and a bare script.

    python benchmarks/submit_to_first_step.py --rounds 5

Goal: at most 1/8 of `trl sft`.

Method: a tiny Llama (1 MB), 64 rows of chat, 10 steps of 4 x 2 rows, the same arguments for all.
The service: seconds from the POST that creates a job to the first metrics event on its live
stream, which is the loss of step 1; its worker is warm, and one job before is not counted. The
others: seconds from the start of the process to the line with the loss of step 1. All take turns,
so a noisy machine is noisy for all; medians. `whole` is until the job has succeeded and its
checkpoint is published, or the process has ended (`trl sft` saves a model too, the bare script
saves nothing).
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import tiny_llama
from benchmarks.peers import BARE_SCRIPT, peer_environment, timed_lines
from benchmarks.report import Report, parser_of
from benchmarks.service import Service, running_service
from examples.tiny_model import write_chat

ROWS = 64
TRAINING = {
    "max_steps": 10,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_length": 128,
    "learning_rate": 1e-3,
    "logging_steps": 1,
}
GOAL = 1 / 8

Seconds = tuple[float, float]
"""To the first step, and to the end."""


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(Path(folder), given.rounds)
    report(runs).show(as_json=given.json)


def measure(home: Path, rounds: int) -> dict[str, list[Seconds]]:
    """Seconds by the way of training, of each round."""
    models, data = home / "models", home / "data"
    model = tiny_llama(models)
    data.mkdir()
    file = write_chat(data / "train.jsonl", ROWS)
    with running_service(home / "service", models=models) as service:
        job = {"model": "local/tiny-llama", "training_file": service.upload(file)}
        run_job(service, job)
        ways: dict[str, Callable[[], Seconds]] = {
            "service": lambda: run_job(service, job),
            "bare script": lambda: run_script(model, file, home),
            "trl sft": lambda: run_trl(model, data, home),
        }
        runs: dict[str, list[Seconds]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                runs[name].append(way())
    return runs


def run_job(service: Service, job: dict[str, Any]) -> Seconds:
    """Submit a job and watch it to its end."""
    first = None
    started = time.perf_counter()
    job_id = service.submit(**job, training=TRAINING)
    for event in service.events(job_id):
        if first is None and event["type"] == "metrics":
            assert event["data"]["step"] == 1, event
            first = time.perf_counter() - started
    whole = time.perf_counter() - started
    service.finish(job_id)
    assert first is not None
    return first, whole


def run_script(model: Path, data: Path, home: Path) -> Seconds:
    """Run a bare SFTTrainer script."""
    case = {"model": str(model), "train": str(data), "output": str(home / "bare-output")}
    case |= {"training": TRAINING, "peft": None, "dtype": "float32"}
    return _seconds(BARE_SCRIPT, home, marker="STEP", text=json.dumps(case))


def run_trl(model: Path, data: Path, home: Path) -> Seconds:
    """Run TRL's own command."""
    output = home / "trl-output"
    command = [str(Path(sys.executable).with_name("trl")), "sft"]
    command += ["--model_name_or_path", str(model), "--dtype", "float32"]
    command += ["--dataset_name", str(data), "--output_dir", str(output)]
    command += ["--use_cpu", "true", "--bf16", "false", "--activation_checkpointing", "false"]
    command += ["--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "true"]
    for name, value in TRAINING.items():
        command += [f"--{name}", str(value)]
    seconds = _seconds(command, home, marker="'loss'")
    shutil.rmtree(output, ignore_errors=True)
    return seconds


def _seconds(command: list[str], home: Path, *, marker: str, text: str = "") -> Seconds:
    """Until the first line with the marker, and until the end."""
    environment = peer_environment(home / "huggingface")
    started = time.perf_counter()
    marked = [
        moment.at - started
        for moment, line in timed_lines(command, environment=environment, text=text)
        if marker in line
    ]
    return marked[0], time.perf_counter() - started


def report(runs: dict[str, list[Seconds]]) -> Report:
    """Medians, and their ratio to those of `trl sft`."""
    result = Report(
        "Seconds from submitting to the loss of the first step",
        ["", "first step", "fastest", "slowest", "of trl sft", "of bare script", "whole", "rounds"],
    )
    first = {name: [run[0] for run in each] for name, each in runs.items()}
    median = {name: statistics.median(seconds) for name, seconds in first.items()}
    for name, seconds in first.items():
        ratios = [median[name] / median[other] for other in ("trl sft", "bare script")]
        whole = statistics.median(run[1] for run in runs[name])
        row = [name, median[name], min(seconds), max(seconds), *ratios, whole, len(seconds)]
        result.rows.append(row)
    ratio = median["service"] / median["trl sft"]
    result.goals.append((f"at most 1/8 of trl sft: 1/{1 / ratio:.1f}", ratio <= GOAL))
    return result


if __name__ == "__main__":
    main()
