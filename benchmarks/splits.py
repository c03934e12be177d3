"""One effective batch in several micro-batches: the same losses, in a fraction of the memory.

    python benchmarks/splits.py --model models/smollm2-135m-instruct --svg splits.svg

Goal: the losses of all splits equal to 1e-5.

Method: SmolLM2-135M in fp32, effective batch 32 of 128 tokens a row, as 32x1, 8x4, 4x8 and 1x32
(rows in memory at once x accumulation steps); all weights, then LoRA (r=8 on all linear layers).
Each split is a training child of its own, started as a worker does, with the same seed and data.
The losses of every step are compared with those of the first split, which is also the reference of
the memory. Peak is what the child itself reports at its end: its most resident memory. The default
takes 13 GB and about ten minutes; --length, --steps and --micro-batches make it smaller.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.chart import bar_chart
from benchmarks.material import order_for, small_model, write_long_text
from benchmarks.report import Report, parser_of
from tests.training.running import publish, run_child
from worker.forkserver import ChildHandle, child_environment, warm

MODES: dict[str, tuple[str, dict[str, Any] | None, float]] = {
    "full": ("all weights", None, 1e-5),
    "lora": ("LoRA", {"r": 8, "target_modules": "all-linear"}, 1e-4),
}
"""The name for people, the LoraConfig, and the learning rate."""
GOAL = 1e-5


@dataclass(frozen=True)
class Run:
    """One split of one mode."""

    micro_batch: int
    accumulation: int
    losses: tuple[float, ...]
    peak_bytes: int
    seconds: float
    """For all steps."""

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.micro_batch} x {self.accumulation}"


@dataclass(frozen=True)
class Workload:
    """What all runs have in common."""

    model: Path
    data: Path
    home: Path
    effective: int
    length: int
    steps: int


def main() -> None:
    """Measure, print and draw."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--length", type=int, default=128, help="tokens a row")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--effective", type=int, default=32, help="rows a step")
    parser.add_argument("--micro-batches", type=int, nargs="+", default=[32, 8, 4, 1])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--svg", type=Path, help="file to draw the peaks into")
    given = parser.parse_args()
    if any(given.effective % micro_batch for micro_batch in given.micro_batches):
        parser.error(f"each of --micro-batches must divide {given.effective}")
    model = small_model(given.model)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        rows = given.effective * given.steps
        data = write_long_text(home / "rows.jsonl", rows=rows, tokens=given.length)
        workload = Workload(model, data, home, given.effective, given.length, given.steps)
        warm(child_environment(scratch=home / "forkserver"))
        runs = {
            mode: [run_split(workload, mode, micro_batch) for micro_batch in given.micro_batches]
            for mode in given.modes
        }
    title = f"{model.name}, effective batch {given.effective} of {given.length} tokens"
    report(title, runs).show(as_json=given.json)
    if given.svg is not None:
        given.svg.write_text(draw(title, runs), encoding="utf-8")


def run_split(workload: Workload, mode: str, micro_batch: int) -> Run:
    """Train one split in a child of its own."""
    _, peft, rate = MODES[mode]
    accumulation = workload.effective // micro_batch
    scratch = workload.home / f"{mode}-{micro_batch}"
    times: list[float] = []

    def note(child: ChildHandle, message: dict[str, Any]) -> None:
        if message["type"] == "metrics" or message == {"type": "phase", "phase": "train"}:
            times.append(time.perf_counter())
        publish(child, message)

    training = {
        "max_steps": workload.steps,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "max_length": workload.length,
        "learning_rate": rate,
        "logging_steps": 1,
        "save_strategy": "no",
    }
    order = order_for(workload.model, workload.data, scratch, training=training, peft=peft)
    run = run_child(order, react=note)
    shutil.rmtree(scratch, ignore_errors=True)
    if run.last["type"] != "finished":
        raise SystemExit(f"{micro_batch} x {accumulation} failed: {run.last}\n{run.log.decode()}")
    losses = tuple(run.metric("train_loss").values())
    seconds = times[workload.steps] - times[0]
    return Run(micro_batch, accumulation, losses, run.last["peak_memory_bytes"], seconds)


def report(title: str, runs: dict[str, list[Run]]) -> Report:
    """All runs, each against the first of its mode."""
    result = Report(
        title,
        ["", "split", "peak MB", "of first", "s a step", "last loss", "largest loss difference"],
    )
    for mode, each in runs.items():
        first = each[0]
        apart = [_apart(run.losses, first.losses) for run in each]
        for run, difference in zip(each, apart, strict=True):
            ratio, pace = run.peak_bytes / first.peak_bytes, run.seconds / len(run.losses)
            peak, loss = round(run.peak_bytes / 1e6), f"{run.losses[-1]:.6f}"
            name = MODES[mode][0]
            result.rows.append([name, run.name, peak, ratio, pace, loss, f"{difference:.1e}"])
        goal = f"{MODES[mode][0]}, losses equal to {GOAL:.0e}: {max(apart):.1e}"
        result.goals.append((goal, max(apart) <= GOAL))
    return result


def draw(title: str, runs: dict[str, list[Run]]) -> str:
    """The peaks as bars."""
    groups = {
        MODES[mode][0]: {
            run.name: (run.peak_bytes, f"{run.peak_bytes / 1e9:.1f} GB") for run in each
        }
        for mode, each in runs.items()
    }
    return bar_chart(f"Peak memory: {title}", groups)


def _apart(losses: Sequence[float], others: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(losses, others, strict=True))


if __name__ == "__main__":
    main()
