"""The guess of a step's time: what padding makes of the ways to split a batch."""

import dataclasses

import pytest

from core.plan.pace import guess_seconds, row_tokens
from tests.unit.test_plan_memory import settings, smollm

UNEVEN = dataclasses.replace(settings(per_device_train_batch_size=32), mean_length=64)


def test_rows_of_unknown_or_equal_length_are_computed_whole() -> None:
    whole = dataclasses.replace(UNEVEN, mean_length=None)
    packed = dataclasses.replace(UNEVEN, is_padded=False)

    assert row_tokens(smollm(), whole) == row_tokens(smollm(), packed) == 128


@pytest.mark.parametrize("chance", [False, True])
def test_more_micro_batches_leave_less_padding(chance: bool) -> None:
    """Also where rows keep their places: of fewer rows at once the longest is shorter."""
    batch = dataclasses.replace(UNEVEN, adapter_dropout=chance)
    splits = [batch.split(size, checkpointing=False) for size in (32, 16, 8, 4, 2, 1)]

    tokens = [row_tokens(smollm(), split) for split in splits]

    assert tokens == sorted(tokens, reverse=True)
    assert tokens[-1] == 64
    assert tokens[3] == (64 + 64 * 3 / 5 if chance else 64 + 64 / 8)


def test_padding_decides_against_the_largest_micro_batch() -> None:
    one, many = (UNEVEN.split(size, checkpointing=False) for size in (32, 4))

    assert guess_seconds(smollm(), many, cpus=2) < guess_seconds(smollm(), one, cpus=2)
