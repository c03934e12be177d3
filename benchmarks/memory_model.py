"""The planner's memory model against real training children.

    python benchmarks/memory_model.py --model models/smollm2-135m-instruct --keep measured.jsonl

Goal: within 15 % on models that no coefficient was fitted on, and never more than 10 % low.

Method: a sample of a grid, always the same: OPT, Llama, Qwen and GPT-2 models of 0.2, 20 and 110
million random parameters, and SmolLM2-135M; all weights and LoRA (r=8 on all linear layers); fp32
and bf16; an effective batch of 8 as 8x1, 4x2, 2x4 and 1x8; with and without activation
checkpointing; two lengths. Each setting is a training child of its own, started as a worker does,
for two optimizer steps; its peak is the most resident memory, as the child itself reports it. One
row in four is shorter, so that batches are padded as real ones are.

What the C library keeps of freed blocks was fitted on OPT and Llama models, SmolLM2 among them; all
Qwen and GPT-2 models are held out. The sample was drawn anew after the last fit. The whole takes
about 15 minutes on two idle cores; --sizes takes a part, and --keep a file where measured settings
are not measured again.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import small_model
from benchmarks.memory_grid import SIZES, Cell, Measured, grid, make_models, measure
from benchmarks.report import Report, parser_of
from core.model_facts import facts_of_folder
from core.plan.memory import predict_peak
from core.plan.settings import settings_of
from worker.forkserver import child_environment, warm

FITTED = ("opt", "llama")
WITHIN, LOW = 0.15, -0.10
SMOLLM = "135M"


def main() -> None:
    """Measure, predict and compare."""
    names = [*(size.name for size in SIZES), SMOLLM]
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="folder of SmolLM2-135M; default: the demo's")
    parser.add_argument("--sizes", nargs="+", choices=names, default=names)
    parser.add_argument("--keep", type=Path, help="file of what was measured")
    given = parser.parse_args()
    smollm = small_model(given.model) if SMOLLM in given.sizes else None
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        models = home / "models"
        make_models(models)
        if smollm is not None:
            (models / smollm.name).symlink_to(smollm)
        cells = [cell for cell in grid(smollm) if _is_wanted(cell, given.sizes)]
        warm(child_environment(scratch=home / "forkserver"))
        measured = list(measure(cells, models, home, given.keep))
        report(measured, models).show(as_json=given.json)


def _is_wanted(cell: Cell, sizes: Sequence[str]) -> bool:
    return cell.model.split("-")[0] in sizes or (cell.is_pretrained and SMOLLM in sizes)


def predicted(cell: Cell, models: Path) -> int:
    """The peak that the planner says."""
    facts = facts_of_folder(cell.model, models / cell.model)
    training = cell.training()
    training["activation_checkpointing"] = training.pop("gradient_checkpointing")
    return predict_peak(facts, settings_of(facts, training, peft=cell.peft())).total


def is_held_out(cell: Cell) -> bool:
    """Whether no coefficient was fitted on this model."""
    return cell.family not in FITTED


def report(measured: Sequence[Measured], models: Path) -> Report:
    """Each setting, then the errors of the two parts."""
    result = Report(
        "Peak memory: predicted against measured",
        ["setting", "held out", "predicted MB", "measured MB", "error %"],
    )
    errors: dict[bool, list[float]] = {False: [], True: []}
    for each in measured:
        peak = predicted(each.cell, models)
        error, held = peak / each.peak_bytes - 1, is_held_out(each.cell)
        errors[held].append(error)
        megabytes = round(peak / 1e6), round(each.peak_bytes / 1e6)
        result.rows.append([each.cell.name, "yes" if held else "", *megabytes, round(100 * error)])
    for held, found in errors.items():
        if not found:
            continue
        name = "held out" if held else "fitted"
        within = sum(abs(error) <= WITHIN for error in found) / len(found)
        text = (
            f"{name}, {len(found)} settings within {WITHIN:.0%}: {within:.0%} of them, mean "
            f"{sum(map(abs, found)) / len(found):.1%}, from {min(found):+.1%} to {max(found):+.1%}"
        )
        result.goals.append((text, within == 1))
        low = f"{name}, never more than {-LOW:.0%} low: {min(found):+.1%}"
        result.goals.append((low, min(found) >= LOW))
    return result


if __name__ == "__main__":
    main()
