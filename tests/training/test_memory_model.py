"""The memory model holds for real children; benchmarks/memory_model.py tries many more."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.memory_grid import Cell, measure
from benchmarks.memory_model import predicted

pytestmark = pytest.mark.training

LOOSE = 0.20
"""The allocator and other processes have a say in small peaks."""
CELL = Cell("llama", "llama", "full", False, 8, False, 256)


@pytest.mark.parametrize(
    "cell",
    [CELL, dataclasses.replace(CELL, method="lora", bf16=True, micro_batch=2, checkpointing=True)],
    ids=["full", "lora"],
)
def test_the_peak_of_a_real_child_is_as_planned(
    cell: Cell, models: Path, warm_forkserver: None, tmp_path: Path
) -> None:
    (measured,) = measure([cell], models, tmp_path, None)

    assert abs(predicted(cell, models) / measured.peak_bytes - 1) < LOOSE
