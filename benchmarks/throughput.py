"""Tokens a second of the training child, against a bare SFTTrainer script.

    python benchmarks/throughput.py --model models/smollm2-135m-instruct

Goals: 1.1 times the bare script in fp32 and 1.25 times in bf16, with a peak memory no higher.

Method: SmolLM2-135M with LoRA (r=8 on q_proj and v_proj), batches of 4 x 64 tokens without padding,
the same rows, arguments and number of threads for both. Child and script take turns (A B A B);
tokens a second by the median time between the logs of two steps, the first two steps left out.
`cpu ratio` compares tokens by the CPU time that each process used, which says the same on a quiet
machine and moves less on a busy one; `busy` is the part of all cores' time that a process got.
Peak is the most resident memory of the process over its life. The losses of both are compared too:
a faster trainer that trains something else would be no gain. Precisions: `fp32`; `bf16`, weights
in bf16; `autocast`, weights in fp32 and the trainer's `bf16=True`.
"""

import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import order_for, small_model, write_long_text
from benchmarks.peers import BARE_SCRIPT, peer_environment
from benchmarks.report import Report, parser_of
from benchmarks.sides import Trained, train_in_child, train_in_script
from worker.forkserver import child_environment, warm
from worker.machine import usable_cpus

BATCH, LENGTH, SKIPPED_STEPS = 4, 64, 2
PEFT = {"r": 8, "target_modules": ["q_proj", "v_proj"]}
PRECISIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("float32", {}),
    "bf16": ("bfloat16", {}),
    "autocast": ("float32", {"bf16": True}),
}
"""The type of the weights, and the trainer's arguments."""
COLUMNS = ("", "child", "bare", "ratio", "cpu ratio", "busy", "bare busy")
COLUMNS += ("peak MB", "bare peak MB", "loss difference")
GOALS = {"fp32": 1.1, "bf16": 1.25}


@dataclass
class Runs:
    """What one side did, over all rounds."""

    seconds: list[float] = field(default_factory=list)
    """Of each step that counts."""
    cpu_seconds: list[float] = field(default_factory=list)
    """Of each step that counts, over all cores."""
    losses: list[float] = field(default_factory=list)
    """By step; every round has the same."""
    peak_bytes: int = 0

    def add(self, trained: Trained) -> None:
        """Add a round."""
        self.seconds += trained.seconds(skipped=SKIPPED_STEPS)
        self.cpu_seconds += trained.cpu_seconds(skipped=SKIPPED_STEPS)
        self.losses = trained.losses
        self.peak_bytes = max(self.peak_bytes, trained.peak_bytes)

    @property
    def tokens_per_second(self) -> float:
        """By the median step."""
        return BATCH * LENGTH / statistics.median(self.seconds)

    @property
    def tokens_per_cpu_second(self) -> float:
        """By the median step."""
        return BATCH * LENGTH / statistics.median(self.cpu_seconds)

    @property
    def busy(self) -> float:
        """Part of the time of all cores that the process had."""
        return sum(self.cpu_seconds) / sum(self.seconds) / usable_cpus()


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, model = Path(folder), small_model(given.model)
        data = write_long_text(home / "rows.jsonl", rows=BATCH * given.steps, tokens=LENGTH)
        warm(child_environment(scratch=home / "forkserver"))
        result = Report(
            f"Tokens a second, {model.name}, LoRA r=8, {BATCH} x {LENGTH} tokens",
            COLUMNS,
        )
        for precision in given.precisions:
            child, bare = Runs(), Runs()
            for number in range(given.rounds):
                case = Case(model, data, home / f"{precision}-{number}", precision, given.steps)
                run_in_child(case, child)
                run_bare(case, bare)
            add_row(result, precision, child, bare)
    result.show(as_json=given.json)


@dataclass(frozen=True)
class Case:
    """One run, of either side."""

    model: Path
    data: Path
    scratch: Path
    precision: str
    steps: int

    @property
    def dtype(self) -> str:
        """The type of the weights."""
        return PRECISIONS[self.precision][0]

    @property
    def training(self) -> dict[str, Any]:
        """The trainer's arguments."""
        return {
            "max_steps": self.steps,
            "per_device_train_batch_size": BATCH,
            "gradient_accumulation_steps": 1,
            "max_length": LENGTH,
            "learning_rate": 1e-4,
            "logging_steps": 1,
            "save_strategy": "no",
            "seed": 42,
            **PRECISIONS[self.precision][1],
        }


def run_in_child(case: Case, runs: Runs) -> None:
    """Train in a child of the forkserver, as a worker does."""
    order = order_for(
        case.model, case.data, case.scratch, training=case.training, peft=PEFT, dtype=case.dtype
    )
    runs.add(train_in_child(order))


def run_bare(case: Case, runs: Runs) -> None:
    """Train in a bare script, in a process of its own."""
    given = {
        "model": str(case.model),
        "train": str(case.data),
        "output": str(case.scratch / "bare"),
        "training": case.training,
        "peft": PEFT,
        "dtype": case.dtype,
    }
    environment = peer_environment(case.scratch / "huggingface")
    runs.add(train_in_script(BARE_SCRIPT, given, environment=environment))


def add_row(result: Report, precision: str, child: Runs, bare: Runs) -> None:
    """Compare both sides, in a row and with the goals."""
    ratio = child.tokens_per_second / bare.tokens_per_second
    apart = max(abs(a - b) for a, b in zip(child.losses, bare.losses, strict=True))
    peaks = [round(runs.peak_bytes / 1e6) for runs in (child, bare)]
    speeds = [child.tokens_per_second, bare.tokens_per_second]
    cpu_ratio = child.tokens_per_cpu_second / bare.tokens_per_cpu_second
    row = [precision, *speeds, ratio, cpu_ratio, child.busy, bare.busy, *peaks, apart]
    result.rows.append(row)
    if precision in GOALS:
        goal = GOALS[precision]
        result.goals.append((f"{precision}, at least {goal} times: {ratio:.2f}", ratio >= goal))
    result.goals.append(
        (f"{precision}, peak no higher: {peaks[0]} against {peaks[1]} MB", peaks[0] <= peaks[1])
    )


if __name__ == "__main__":
    main()
