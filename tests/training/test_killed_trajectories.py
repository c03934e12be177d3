"""A training that is killed, whenever that is, is the training that was left alone.

These cells cover each kind and each phase; benchmarks/trajectories.py runs all of them.
"""

from pathlib import Path

import pytest

from tests.training.conftest import OrderFactory
from tests.training.trajectories import KINDS, PHASES, Trajectory, killed, undisturbed

pytestmark = pytest.mark.training

CELLS = [
    ("full", "before the first step"),
    ("full", "in a save"),
    ("dropout", "in a step"),
    ("dropout", "between save and publish"),
    ("lora", "in an evaluation"),
    ("packing", "in the last step"),
    ("streamed", "in a step"),
]


def test_the_cells_cover_every_kind_and_every_phase() -> None:
    assert {kind for kind, _ in CELLS} == set(KINDS)
    assert {phase for _, phase in CELLS} == set(PHASES)


@pytest.fixture(scope="module")
def wholes() -> dict[str, Trajectory]:
    """Undisturbed trajectories by kind, each trained when it is first needed."""
    return {}


@pytest.mark.parametrize(("kind", "phase"), CELLS)
def test_a_kill_changes_no_number_and_no_weight(
    kind: str,
    phase: str,
    make_order: OrderFactory,
    wholes: dict[str, Trajectory],
    text_file: Path,
    eval_file: Path,
) -> None:
    if kind not in wholes:
        wholes[kind] = undisturbed(make_order, kind, text_file, eval_file)

    trajectory = killed(make_order, kind, phase, text_file, eval_file)

    assert sorted(trajectory.metrics) == list(range(1, 10))
    assert trajectory == wholes[kind]
