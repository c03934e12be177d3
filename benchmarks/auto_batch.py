""" "auto" against the classic recipe of micro-batch 4 x accumulation 8, in the same memory.

    python benchmarks/auto_batch.py --model models/smollm2-135m-instruct

Goal: at least 1.5 times the tokens in a second, and the same last loss to 2 %.

Method: SmolLM2-135M, effective batch 32 of 128 tokens a row, two steps, all weights and then LoRA
(r=8 on all linear layers). The classic run computes in fp32, as it did; its measured peak is the
limit that "auto" is given for micro-batch, accumulation, checkpointing and bf16, which the planner
turns on where the CPU multiplies in bfloat16. Rows are natural paragraphs, cut at the length. The
order is classic, auto, and so on, `--repeats` times; the quickest step of each counts.
"""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import order_for, small_model
from benchmarks.report import Report, parser_of
from core.model_facts import facts_of_folder
from core.plan.options import Experience, Option, all_options, best_option
from core.plan.settings import settings_of
from core.refit import ACCUMULATION, CHECKPOINTING, MICRO_BATCH
from examples.tiny_model import write_pydoc_text
from tests.training.running import run_child
from worker.forkserver import child_environment, warm
from worker.machine import has_bfloat16, usable_cpus

EFFECTIVE, LENGTH, STEPS = 32, 128, 2
CLASSIC = {MICRO_BATCH: 4, ACCUMULATION: 8}
METHODS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "full": (None, 1e-5),
    "lora": ({"r": 8, "target_modules": "all-linear"}, 1e-4),
}
TIMES, SAME_LOSS = 1.5, 0.02


@dataclass(frozen=True)
class Run:
    """What one training has taken."""

    seconds: float
    peak_bytes: int
    loss: float


def main() -> None:
    """Run both, in turn."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="model folder; default: the demo's SmolLM2-135M")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    model = small_model(given.model)
    result = Report(
        f"{model.name}, effective batch {EFFECTIVE}, rows of at most {LENGTH} tokens",
        ["", "split", "bf16", "checkpointed", "s a step", "peak MB", "last loss"],
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = write_pydoc_text(home / "rows.jsonl", EFFECTIVE * STEPS)
        warm(child_environment(scratch=home / "forkserver"))
        for method in given.methods:
            _compare(model, data, method, given.repeats, result)
    result.show(as_json=given.json)


def _compare(model: Path, data: Path, method: str, repeats: int, result: Report) -> None:
    classic = [train(model, data, method, CLASSIC)]
    option = choose(model, method, classic[0].peak_bytes)
    chosen = {
        MICRO_BATCH: option.settings.micro_batch,
        ACCUMULATION: option.settings.accumulation,
        CHECKPOINTING: option.settings.checkpointing,
        "bf16": option.settings.bf16,
    }
    auto = [train(model, data, method, chosen)]
    for _ in range(repeats - 1):
        classic.append(train(model, data, method, CLASSIC))
        auto.append(train(model, data, method, chosen))
    for name, training, runs in (("4 x 8", CLASSIC, classic), ("auto", chosen, auto)):
        split = f"{training[MICRO_BATCH]} x {training[ACCUMULATION]}"
        used = ["yes" if training.get(key) else "no" for key in ("bf16", CHECKPOINTING)]
        peak = max(run.peak_bytes for run in runs)
        pace = min(run.seconds for run in runs)
        row = [f"{method}, {name}", split, *used, pace, round(peak / 1e6), runs[-1].loss]
        result.rows.append(row)
    gain = min(run.seconds for run in classic) / min(run.seconds for run in auto)
    result.goals.append((f"{method}: {gain:.2f} times as fast, at least {TIMES}", gain >= TIMES))
    apart = abs(auto[-1].loss / classic[-1].loss - 1)
    result.goals.append((f"{method}: last losses apart by {apart:.2%}", apart <= SAME_LOSS))
    limit = max(run.peak_bytes for run in classic)
    is_within = max(run.peak_bytes for run in auto) <= limit
    result.goals.append((f"{method}: within the memory of the classic run", is_within))


def choose(model: Path, method: str, limit_bytes: int) -> Option:
    """What "auto" becomes under this limit."""
    facts = facts_of_folder(model.name, model)
    training = {MICRO_BATCH: EFFECTIVE, "max_length": LENGTH, "bf16": has_bfloat16()}
    settings = settings_of(facts, training, peft=METHODS[method][0])
    options = all_options(facts, settings, cpus=usable_cpus(), experience=Experience())
    return best_option(options, limit_bytes)


def train(model: Path, data: Path, method: str, chosen: dict[str, Any]) -> Run:
    """Two steps in a child of its own."""
    peft, rate = METHODS[method]
    training = {
        "max_steps": STEPS,
        "max_length": LENGTH,
        "learning_rate": rate,
        "logging_steps": 1,
        "save_strategy": "no",
        **chosen,
    }
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "attempt"
        run = run_child(order_for(model, data, scratch, training=training, peft=peft))
        shutil.rmtree(scratch, ignore_errors=True)
    if run.last["type"] != "finished":
        raise SystemExit(f"{method} {chosen} failed: {run.last}\n{run.log.decode()}")
    loss = list(run.metric("train_loss").values())[-1]
    return Run(run.last["seconds_per_step"], run.last["peak_memory_bytes"], loss)


if __name__ == "__main__":
    main()
