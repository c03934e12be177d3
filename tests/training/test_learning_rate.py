"""A resumed training goes on at the learning rate of its arguments, not of its checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from tests.training.conftest import OrderFactory
from tests.training.running import run_child
from worker.child.learning_rate import adopt_learning_rate

pytestmark = pytest.mark.training

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {},
    "constant": {},
    "constant_with_warmup": {},
    "cosine_with_min_lr": {"min_lr": 1e-5},
    "cosine_with_restarts": {"num_cycles": 2},
    "inverse_sqrt": {},
    "polynomial": {"lr_end": 1e-6},
}


def make(name: str, rate: float) -> tuple[torch.optim.Optimizer, LRScheduler]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    scheduler = get_scheduler(
        name, optimizer, 3, 20, scheduler_specific_kwargs=dict(SCHEDULES[name])
    )
    return optimizer, scheduler


def rates_of(optimizer: torch.optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        optimizer.step()
        found.append(optimizer.param_groups[1]["lr"])
        scheduler.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_goes_on_at_the_same_place(name: str) -> None:
    """From where it was, each rate is the one of a schedule that began with the new one."""
    whole = rates_of(*make(name, 1e-4), 20)
    optimizer, scheduler = make(name, 1e-3)
    rates_of(optimizer, scheduler, 8)
    resumed, resumed_scheduler = make(name, 1e-4)
    resumed.load_state_dict(optimizer.state_dict())
    resumed_scheduler.load_state_dict(scheduler.state_dict())

    adopt_learning_rate(resumed, resumed_scheduler, 1e-4)

    assert rates_of(resumed, resumed_scheduler, 12) == whole[8:]


def test_the_metrics_show_the_new_learning_rate(make_order: OrderFactory) -> None:
    training = {"max_steps": 6, "save_steps": 3, "learning_rate": 1e-3}
    first = run_child(make_order(training=training))
    at_three = next(m for m in first.of("checkpoint") if m["step"] == 3)
    lower = training | {"learning_rate": 1e-4}

    second = run_child(make_order(training=lower, resume_from=str(Path(at_three["path"]))))

    before, after = first.metric("learning_rate"), second.metric("learning_rate")
    assert second.last["type"] == "finished", second.log.decode()
    assert sorted(after) == [4, 5, 6]
    assert [after[step] for step in (4, 5, 6)] == pytest.approx(
        [before[step] / 10 for step in (4, 5, 6)]
    )
    assert second.metric("train_loss")[4] == first.metric("train_loss")[4]
    assert second.metric("train_loss")[6] != first.metric("train_loss")[6]
