"""Puts rows of like length together, among the micro-batches of one optimizer step.

The rows of the step stay the same, and with them the gradient: only less padding is computed, in
fewer pieces, and none of them is larger than the largest that was asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from core.dataset.encode import IGNORED

COST_OF_PIECE = 32
"""What a forward and a backward pass cost besides their tokens, in tokens: gradients that are added
to others, and calls of small operations. Measured on a CPU with 135M parameters."""
COLUMNS = {"input_ids", "labels", "attention_mask"}
WEIGHTS = "metric_weights"
"""Of each row, in means over the micro-batches as they were before."""

Batch = dict[str, Any]
Collator = Callable[[list[dict[str, list[int]]]], Batch]


def regroup_batches(
    batches: list[Batch], collate: Collator, *, longest: int, multiple: int = 1
) -> list[Batch]:
    """As many micro-batches of the same rows; those that are left over have no rows.

    `longest` is the most tokens of a row in the whole data: a micro-batch may get as large as one
    of such rows would have been. `multiple` is what the collator pads to.
    """
    if len(batches) < 2 or any(set(batch) != COLUMNS for batch in batches):
        return batches
    rows = [row for batch in batches for row in _rows(batch)]
    weights = torch.cat([_weights(batch) for batch in batches])
    lengths = [_padded(len(row["input_ids"]), multiple) for row in rows]
    most_rows = max(len(batch["input_ids"]) for batch in batches)
    most_tokens = most_rows * max(_padded(longest, multiple), *lengths)
    pieces = [
        collate([rows[number] for number in group]) | {WEIGHTS: weights[group]}
        for group in group_rows(lengths, most_groups=len(batches), most_tokens=most_tokens)
    ]
    empty = {name: value[:0] for name, value in pieces[0].items()}
    return pieces + [empty] * (len(batches) - len(pieces))


def has_dropout(model: PreTrainedModel) -> bool:
    """Whether chance is at work in a training pass, by the model's configuration or its modules.

    Rows that change their places would then be given other random numbers.
    """
    # A value of the configuration that is no share, as a list for each layer, is taken for one.
    settings = model.config.get_text_config().to_dict()
    return any(
        "drop" in name and value not in (None, False, 0) for name, value in settings.items()
    ) or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def is_empty(batch: Batch) -> bool:
    """Whether a micro-batch was left over."""
    return len(batch["input_ids"]) == 0


def group_rows(lengths: Sequence[int], *, most_groups: int, most_tokens: int) -> list[list[int]]:
    """The numbers of the rows that are padded to each other, the longest ones first.

    Of the ways that keep both limits, one that costs little; there must be such a way. There is
    one if groups of as many rows, all of them as long as the longest, keep the limits.
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    sizes = [lengths[number] for number in order]
    cost = COST_OF_PIECE
    while len(starts := _cheapest(sizes, most_tokens, cost)) > most_groups:
        # The dearer a piece is, the fewer there are.
        cost *= 2
    return [order[start:end] for start, end in zip(starts, [*starts[1:], len(order)], strict=True)]


def _cheapest(sizes: Sequence[int], most_tokens: int, cost: int) -> list[int]:
    """Where the groups of descending sizes begin, so that padded tokens and pieces cost least."""
    total: list[float] = [0.0]
    began = [0]
    for end in range(1, len(sizes) + 1):
        best, best_start = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            tokens = (end - start) * sizes[start]
            if tokens > most_tokens and start < end - 1:
                break
            if total[start] + tokens + cost < best:
                best, best_start = total[start] + tokens + cost, start
        total.append(best)
        began.append(best_start)
    starts, end = [], len(sizes)
    while end > 0:
        end = began[end]
        starts.append(end)
    return starts[::-1]


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _rows(batch: Batch) -> list[dict[str, list[int]]]:
    columns = zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    return [
        {"input_ids": ids[mask.bool()].tolist(), "labels": labels[mask.bool()].tolist()}
        for ids, labels, mask in columns
    ]


def _weights(batch: Batch) -> torch.Tensor:
    learned = int((batch["labels"][:, 1:] != IGNORED).sum())
    return torch.full((len(batch["labels"]),), 1 / max(1, learned))
