"""Whether a killed training is the one that was left alone, in every phase, for every kind.

    python benchmarks/trajectories.py

Method: tiny models on the CPU in fp32, 9 steps of 4 x 2 rows, checkpoints and evaluations every 3.
One training of each kind is left alone; others are killed once (SIGKILL) in each phase and go on
from the newest checkpoint that had been published, as the next attempt of a job does. Compared
are all metrics of all steps, to the last bit, and the hash of the final weights. Goal: all equal.
"""

import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.material import order_for
from benchmarks.report import Report, parser_of
from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.training.trajectories import KINDS, PHASES, killed, undisturbed
from worker.forkserver import child_environment, warm

TRAIN_ROWS, EVAL_ROWS = 200, 10


def main() -> None:
    """Run all cells and print which are equal."""
    given = parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    result.show(as_json=given.json)
    if not all(is_reached for _, is_reached in result.goals):
        raise SystemExit(1)


def measure(folder: Path) -> Report:
    """The matrix: kinds by phases."""
    for family in ("opt", "llama"):
        make_tiny_model(family, folder / family)
    train = write_pydoc_text(folder / "train.jsonl", TRAIN_ROWS)
    evaluation = write_pydoc_text(folder / "eval.jsonl", EVAL_ROWS)
    warm(child_environment(scratch=folder / "home"))
    numbers = count(1)

    def make_order(family: str, *, training: dict[str, Any], **fields: Any) -> dict[str, Any]:
        scratch = folder / f"attempt-{next(numbers)}"
        scratch.mkdir()
        return order_for(folder / family, train, scratch, training=training) | fields

    result = Report("Killed against left alone", ["killed", *KINDS])
    wholes = {kind: undisturbed(make_order, kind, train, evaluation) for kind in KINDS}
    num_equal = 0
    for phase in PHASES:
        row = []
        for kind, whole in wholes.items():
            is_equal = killed(make_order, kind, phase, train, evaluation) == whole
            num_equal += is_equal
            row.append("equal" if is_equal else "DIFFERS")
        result.rows.append([phase, *row])
    cells = len(PHASES) * len(KINDS)
    result.goals.append((f"all equal: {num_equal} of {cells}", num_equal == cells))
    return result


if __name__ == "__main__":
    main()
