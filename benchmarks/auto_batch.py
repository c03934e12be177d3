""" "auto" against the classic recipe of micro-batch 4 x accumulation 8, in the same memory.

    python benchmarks/auto_batch.py --model models/smollm2-135m-instruct

Goal: at least 1.5 times the steps in the same time, and the same last loss to 2 %.

Method: SmolLM2-135M, effective batch 32 of at most 128 tokens a row, three steps, all weights and
then LoRA (r=8 on all linear layers). The classic recipe is a bare SFTTrainer script, 4 x 8 in fp32;
its measured peak is the limit that "auto" is given for micro-batch, accumulation, checkpointing and
bf16, which the planner turns on where the CPU multiplies in bfloat16. The classic split in this
service comes third, since a part of the gain is in every job. Rows are natural paragraphs, cut at
the length. The three take turns, `--repeats` times; the quickest step of each counts, the first
one left out. `cpu ratio` compares the CPU time of that step in place of the time by the clock: it
says the same on a quiet machine and moves less on a busy one. About eight minutes on two idle
cores; --methods, --repeats and --steps make it shorter.
"""

import dataclasses
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import order_for, small_model
from benchmarks.peers import BARE_SCRIPT, peer_environment
from benchmarks.report import Report, parser_of
from benchmarks.sides import Trained, train_in_child, train_in_script
from core.model_facts import facts_of_folder
from core.plan.amount import BYTES_OF_TOKEN
from core.plan.options import Experience, Option, all_options, best_option
from core.plan.settings import settings_of
from core.refit import ACCUMULATION, CHECKPOINTING, MICRO_BATCH
from examples.tiny_model import write_pydoc_text
from worker.forkserver import child_environment, warm
from worker.machine import has_bfloat16, usable_cpus

EFFECTIVE, LENGTH = 32, 128
CLASSIC = {MICRO_BATCH: 4, ACCUMULATION: 8}
METHODS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "full": (None, 1e-5),
    "lora": ({"r": 8, "target_modules": "all-linear"}, 1e-4),
}
TIMES, SAME_LOSS = 1.5, 0.02


@dataclass(frozen=True)
class Workload:
    """What all trainings of one method have in common."""

    model: Path
    data: Path
    method: str
    steps: int

    def training(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """The trainer's arguments."""
        return {
            "max_steps": self.steps,
            "max_length": LENGTH,
            "learning_rate": METHODS[self.method][1],
            "logging_steps": 1,
            "save_strategy": "no",
            "seed": 42,
            **chosen,
        }


def main() -> None:
    """Run all, in turn."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3, help="two at least")
    given = parser.parse_args()
    model = small_model(given.model)
    result = Report(
        f"{model.name}, effective batch {EFFECTIVE}, rows of at most {LENGTH} tokens",
        ["", "split", "bf16", "checkpointed", "s a step", "cpu s", "peak MB", "last loss"],
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = write_pydoc_text(home / "rows.jsonl", EFFECTIVE * given.steps)
        warm(child_environment(scratch=home / "forkserver"))
        for method in given.methods:
            _compare(Workload(model, data, method, given.steps), given.repeats, result)
    result.show(as_json=given.json)


def _compare(work: Workload, repeats: int, result: Report) -> None:
    runs: dict[str, list[Trained]] = {"TRL": [train_bare(work)], "4 x 8": [], "auto": []}
    limit = runs["TRL"][0].peak_bytes
    option = choose(work, limit)
    auto = {
        MICRO_BATCH: option.settings.micro_batch,
        ACCUMULATION: option.settings.accumulation,
        CHECKPOINTING: option.settings.checkpointing,
        "bf16": option.settings.bf16,
    }
    for number in range(repeats):
        if number:
            runs["TRL"].append(train_bare(work))
        runs["4 x 8"].append(train(work, CLASSIC))
        runs["auto"].append(train(work, auto))
    for name, chosen in (("TRL", CLASSIC), ("4 x 8", CLASSIC), ("auto", auto)):
        split = f"{chosen[MICRO_BATCH]} x {chosen[ACCUMULATION]}"
        used = ["yes" if chosen.get(key) else "no" for key in ("bf16", CHECKPOINTING)]
        pace, cpu, peak = _pace(runs[name]), _cpu(runs[name]), _peak(runs[name])
        row = [f"{work.method}, {name}", split, *used, pace, cpu, round(peak / 1e6)]
        result.rows.append([*row, runs[name][-1].losses[-1]])
    _add_goals(work.method, runs, result)


def _add_goals(method: str, runs: dict[str, list[Trained]], result: Report) -> None:
    trl, same, auto = runs["TRL"], runs["4 x 8"], runs["auto"]
    gain, cpu = _pace(trl) / _pace(auto), _cpu(trl) / _cpu(auto)
    text = f"{method}: {gain:.2f} times as fast (cpu ratio {cpu:.2f}), at least {TIMES}"
    result.goals.append((f"{text}; of 4 x 8 here {_pace(same) / _pace(auto):.2f}", gain >= TIMES))
    apart = abs(auto[-1].losses[-1] / trl[-1].losses[-1] - 1)
    result.goals.append((f"{method}: last losses apart by {apart:.2%}", apart <= SAME_LOSS))
    is_within = _peak(auto) <= _peak(trl)
    result.goals.append((f"{method}: within the memory of the classic run", is_within))


def _pace(runs: list[Trained]) -> float:
    return min(seconds for run in runs for seconds in run.seconds())


def _cpu(runs: list[Trained]) -> float:
    return min(seconds for run in runs for seconds in run.cpu_seconds())


def _peak(runs: list[Trained]) -> int:
    return max(run.peak_bytes for run in runs)


def choose(work: Workload, limit_bytes: int) -> Option:
    """What "auto" becomes under this limit, by what the report of an uploaded file says."""
    facts = facts_of_folder(work.model.name, work.model)
    training = {MICRO_BATCH: EFFECTIVE, "max_length": LENGTH, "bf16": has_bfloat16()}
    settings = settings_of(facts, training, peft=METHODS[work.method][0])
    mean = work.data.stat().st_size / (EFFECTIVE * work.steps) / BYTES_OF_TOKEN
    settings = dataclasses.replace(settings, mean_length=mean)
    options = all_options(facts, settings, cpus=usable_cpus(), experience=Experience())
    return best_option(options, limit_bytes)


def train(work: Workload, chosen: dict[str, Any]) -> Trained:
    """A few steps in a child of its own."""
    with tempfile.TemporaryDirectory() as folder:
        order = order_for(
            work.model,
            work.data,
            Path(folder) / "attempt",
            training=work.training(chosen),
            peft=METHODS[work.method][0],
        )
        return train_in_child(order)


def train_bare(work: Workload) -> Trained:
    """The same steps by the classic recipe, as a user would write it."""
    with tempfile.TemporaryDirectory() as folder:
        case = {
            "model": str(work.model),
            "train": str(work.data),
            "output": str(Path(folder) / "bare"),
            "training": work.training(CLASSIC),
            "peft": METHODS[work.method][0],
            "dtype": "float32",
        }
        environment = peer_environment(Path(folder) / "huggingface")
        return train_in_script(BARE_SCRIPT, case, environment=environment)


if __name__ == "__main__":
    main()
