"""What a request says about its batch, and what it leaves open."""

from typing import Any

import pytest

from core.errors import InvalidArgument
from core.plan.batch import batch_of

MICRO, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"


@pytest.mark.parametrize(
    ("training", "effective", "splits", "is_open"),
    [
        ({}, None, [(8, 1)], False),
        ({MICRO: 4, ACCUMULATION: 8}, None, [(4, 8)], False),
        ({MICRO: 4, ACCUMULATION: 8}, 32, [(4, 8)], False),
        ({MICRO: "auto"}, None, [(8, 1), (4, 2), (2, 4), (1, 8)], True),
        ({MICRO: 2, ACCUMULATION: "auto"}, None, [(2, 4)], True),
        ({MICRO: "auto", ACCUMULATION: 3}, None, [(8, 3), (4, 3), (2, 3), (1, 3)], True),
        ({MICRO: 4}, 32, [(4, 8)], True),
        ({ACCUMULATION: 4}, 32, [(8, 4)], True),
        ({}, 6, [(6, 1), (3, 2), (2, 3), (1, 6)], True),
    ],
)
def test_a_batch_keeps_what_was_fixed(
    training: dict[str, Any],
    effective: int | None,
    splits: list[tuple[int, int]],
    is_open: bool,
) -> None:
    batch = batch_of(training, effective)

    assert (list(batch.splits), batch.is_open) == (splits, is_open)


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({MICRO: 8}, "24 or 32"),
        ({ACCUMULATION: 7}, "28 or 35"),
        ({MICRO: 8, ACCUMULATION: 2}, "is 16, not the effective batch of 30"),
    ],
)
def test_parts_that_do_not_make_the_effective_batch_are_refused(
    training: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason) as raised:
        batch_of(training, 30)
    assert raised.value.param == "effective_batch_size"
