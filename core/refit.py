"""What to change when an attempt ran out of memory: smaller micro-batches, same effective batch.

The loss of a step is normalised over all tokens of its effective batch, so the split into
micro-batches does not show in the curve. What is needed for any batch, as the weights are, is not
helped by this: such a failure says so, and nothing is tried (`core.remedy`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_BATCH_SIZE = 8
"""TrainingArguments' own default of both batch sizes."""
MICRO_BATCH = "per_device_train_batch_size"
ACCUMULATION = "gradient_accumulation_steps"
EVAL_BATCH = "per_device_eval_batch_size"
CHECKPOINTING = "activation_checkpointing"


@dataclass(frozen=True, slots=True)
class Refit:
    """Changed trainer arguments, and the change in words."""

    training: dict[str, Any]
    change: str


def effective_batch(training: Mapping[str, Any]) -> int:
    """Rows of one optimizer step on one device."""
    batch = int(training.get(MICRO_BATCH, DEFAULT_BATCH_SIZE))
    return batch * int(training.get(ACCUMULATION, 1))


def refit(training: Mapping[str, Any], *, in_evaluation: bool) -> Refit | None:
    """The next smaller way to train the same thing; None when there is none.

    First the micro-batch is divided and the accumulation multiplied, then, at micro-batch 1,
    activations are recomputed. An evaluation only has its own batch made smaller.
    """
    if in_evaluation:
        return _smaller_evaluation(training)
    batch = int(training.get(MICRO_BATCH, DEFAULT_BATCH_SIZE))
    accumulation = int(training.get(ACCUMULATION, 1))
    if batch > 1:
        smaller = _largest_divisor(batch)
        steps = accumulation * (batch // smaller)
        change = (
            f"micro-batch {batch} x accumulation {accumulation} becomes {smaller} x {steps}; "
            f"the effective batch stays {batch * accumulation}"
        )
        return Refit({**training, MICRO_BATCH: smaller, ACCUMULATION: steps}, change)
    if not training.get(CHECKPOINTING):
        change = "activations are computed again instead of kept (activation_checkpointing)"
        return Refit({**training, CHECKPOINTING: True}, change)
    return None


def _smaller_evaluation(training: Mapping[str, Any]) -> Refit | None:
    batch = int(training.get(EVAL_BATCH, DEFAULT_BATCH_SIZE))
    if batch == 1:
        return None
    smaller = batch // 2
    return Refit({**training, EVAL_BATCH: smaller}, f"evaluation batch {batch} becomes {smaller}")


def _largest_divisor(batch: int) -> int:
    """The largest divisor that is at most half, so that the effective batch stays the same."""
    return next(size for size in range(batch // 2, 0, -1) if batch % size == 0)
