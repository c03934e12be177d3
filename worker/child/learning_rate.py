"""Lets a resumed training go on with another learning rate than its checkpoint was made with."""

from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR


def adopt_learning_rate(optimizer: Any, scheduler: Any, rate: float) -> None:
    """Make `rate` the one that the schedule starts from; its course and its position stay.

    Optimizer and scheduler load theirs from the checkpoint, over whatever the arguments say.
    """
    groups = optimizer.param_groups
    if all(group["initial_lr"] == rate for group in groups):
        return
    assert isinstance(scheduler, LambdaLR), type(scheduler)
    scheduler.base_lrs = [rate] * len(groups)
    rates: list[float | Tensor] = [
        rate * factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas
    ]
    for group, now in zip(groups, rates, strict=True):
        group["initial_lr"], group["lr"] = rate, now
    scheduler._last_lr = rates
