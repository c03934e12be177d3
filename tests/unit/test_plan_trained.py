"""The prediction for rows that were trained: what a data report makes of a plan's settings."""

from typing import Any

import pytest

from core.plan.memory import predict_peak
from core.plan.trained import Trained, basis_of
from tests.unit.test_plan_memory import settings, smollm

PLANNED = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}


def rows(sequences: int, tokens: int, longest: int) -> dict[str, Any]:
    """As much of a report as counts here."""
    return {
        "sequences": sequences,
        "tokens": tokens,
        "longest_row_tokens": longest,
        "masked_fraction": 0.0,
    }


def trained(train: dict[str, Any], **training: Any) -> Trained:
    """What became of a plan for rows of 128 tokens."""
    training = {"max_length": 128, **PLANNED, **training}
    basis = basis_of(smollm(), settings(**training))
    return Trained.of(basis, training, {"train": train, "eval": None})


def test_rows_as_planned_have_the_peak_that_was_planned() -> None:
    found = trained(rows(100, 12_800, 500))

    assert found.peak_bytes == predict_peak(smollm(), settings(**PLANNED)).total
    assert found.is_filled


@pytest.mark.parametrize(
    ("train", "training", "split"),
    [
        (rows(100, 2_000, 40), {}, (8, 4, 40)),
        (rows(12, 1_536, 128), {}, (8, 2, 128)),
        (rows(3, 384, 128), {}, (3, 1, 128)),
        (rows(50, 6_000, 30), {"packing": True}, (8, 4, 128)),
        (rows(1, 90, 30), {"packing": True}, (1, 1, 90)),
    ],
    ids=["short", "few", "very few", "packed", "one pack"],
)
def test_settings_are_those_that_the_data_left(
    train: dict[str, Any], training: dict[str, Any], split: tuple[int, int, int]
) -> None:
    found = trained(train, **training).settings

    assert (found.micro_batch, found.accumulation, found.length) == split


def test_the_rows_of_an_evaluation_have_a_length_of_their_own() -> None:
    training = {"max_length": 128, "per_device_eval_batch_size": 256}
    basis = basis_of(smollm(), settings(**training))
    basis["settings"]["eval_batch"] = 256
    report = {"train": rows(100, 2_000, 20), "eval": rows(1_000, 60_000, 60)}

    found = Trained.of(basis, training, report).settings

    assert (found.eval_batch, found.eval_length, found.length) == (256, 60, 20)
