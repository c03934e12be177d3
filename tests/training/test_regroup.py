"""Rows of one optimizer step are put together by length, and train what they would have trained."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import TrainerCallback

from tests.training.conftest import OrderFactory
from worker.child.build import build_trainer
from worker.child.loss import token_loss
from worker.child.order import Order
from worker.child.regroup import group_rows, has_dropout

pytestmark = pytest.mark.training


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_rows_of_like_length_are_put_together_within_both_limits(rows: int) -> None:
    lengths = random.Random(rows).choices(range(1, 129), k=32)

    groups = group_rows(lengths, most_groups=32 // rows, most_tokens=rows * 128)

    padded = [len(group) * max(lengths[number] for number in group) for group in groups]
    before = [rows * max(lengths[start : start + rows]) for start in range(0, 32, rows)]
    assert sorted(number for group in groups for number in group) == list(range(32))
    assert len(groups) <= 32 // rows
    assert max(padded) <= rows * 128
    assert sum(padded) + 32 * len(groups) < sum(before) + 32 * len(before)


def test_rows_that_leave_no_choice_stay_as_many_to_a_piece() -> None:
    assert [len(group) for group in group_rows([9] * 12, most_groups=3, most_tokens=36)] == [4] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_a_token_is_the_cross_entropy(dtype: torch.dtype) -> None:
    logits = torch.randn(40, 50_000, generator=torch.Generator().manual_seed(1)).mul(3).to(dtype)
    labels = torch.arange(40)
    exact = logits.double().requires_grad_()
    expected = functional.cross_entropy(exact, labels, reduction="sum")
    expected.backward()
    shares = exact.detach().softmax(-1)

    given = logits.clone().requires_grad_()
    result = token_loss(given, labels)
    (2 * result.total).backward()

    assert result.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert given.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(given.grad, (2 * exact.grad).to(dtype), atol=1e-6, rtol=1e-2)
    entropy = -(shares * shares.log()).sum(-1).float()
    torch.testing.assert_close(result.entropy, entropy, atol=1e-4, rtol=1e-4)
    assert torch.equal(result.is_correct, exact.argmax(-1) == labels)


def test_a_regrouped_step_computes_fewer_tokens_and_the_same_metrics(
    make_order: OrderFactory, tmp_path: Path
) -> None:
    """Completions only: the head of the model sees no token that is not learned."""
    texts = ["word " * count for count in (1, 40, 2, 30, 3, 25, 1, 35, 2, 20, 4, 45)]
    rows = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"prompt": text, "completion": text[:20] + " end"}) for text in texts]
    rows.write_text("\n".join(lines))
    training = {"gradient_accumulation_steps": 3, "max_steps": 2, "save_strategy": "no"}
    source = {"kind": "jsonl", "path": str(rows)}

    plain = _trained(make_order(training=training, train=source), regroups=False)
    regrouped = _trained(make_order(training=training, train=source), regroups=True)

    assert len(regrouped["logs"]) == 2
    for ours, expected in zip(regrouped["logs"], plain["logs"], strict=True):
        assert ours == pytest.approx(expected, abs=1e-5)
    assert regrouped["tokens"] < 0.75 * plain["tokens"]
    assert regrouped["head"] == plain["head"] == 2 * regrouped["learned"]


@pytest.mark.parametrize(("family", "chance"), [("opt", True), ("llama", False)])
def test_rows_keep_their_places_where_chance_is_at_work(
    family: str, chance: bool, make_order: OrderFactory
) -> None:
    """With dropout another place would mean other random numbers."""
    trainer = build_trainer(_order(make_order(family)))

    assert has_dropout(trainer.model) == chance
    assert trainer._can_regroup == (not chance)


def _order(fields: dict[str, Any]) -> Order:
    return Order.model_validate_json(json.dumps(fields))


def _trained(fields: dict[str, Any], *, regroups: bool) -> dict[str, Any]:
    """The logs of a training in this process, and how much the model has computed."""
    logs = _Logs()
    trainer = build_trainer(_order(fields), callbacks=[logs])
    trainer.__dict__["_can_regroup"] = regroups
    seen = {"tokens": 0, "head": 0}

    def count_tokens(_: Any, given: Any, named: dict[str, Any]) -> None:
        seen["tokens"] += named["input_ids"].numel()

    head = trainer.model.get_output_embeddings()
    forward = head.forward

    def counted(hidden: torch.Tensor) -> torch.Tensor:
        seen["head"] += hidden.shape[:-1].numel()
        return forward(hidden)

    trainer.model.register_forward_pre_hook(count_tokens, with_kwargs=True)
    head.forward = counted
    trainer.train()
    learned = trainer.data_reports["train"].trained_tokens
    return seen | {"logs": logs.steps, "learned": learned}


class _Logs(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            self.steps.append(dict(logs))
