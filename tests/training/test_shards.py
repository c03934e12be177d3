"""Weights in several files: what a client loses when its download is killed is one of them."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.training.conftest import OrderFactory
from worker.child.build import build_trainer
from worker.child.order import Order
from worker.child.trainer import MAX_SHARD_BYTES

pytestmark = [
    pytest.mark.training,
    # Notices of the libraries to each other.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SHARD = 200_000


def test_files_of_weights_are_at_most_4_gb() -> None:
    assert MAX_SHARD_BYTES == 4_000_000_000


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_training_goes_on_from_weights_in_several_files(
    make_order: OrderFactory, family: str
) -> None:
    saved: list[Path] = []
    order = make_order(family, training={"max_steps": 2, "save_steps": 1})
    first = build_trainer(
        Order.model_validate(order), after_save=saved.append, max_shard_bytes=SHARD
    )
    first.train()

    folder = saved[0]
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert not (folder / "model.safetensors").exists()
    again = build_trainer(Order.model_validate(make_order(family, training={"max_steps": 2})))
    again.train(resume_from_checkpoint=str(folder))
    loaded = AutoModelForCausalLM.from_pretrained(saved[-1]).state_dict()
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, first.model.state_dict()[name]), name
        assert torch.equal(tensor, loaded[name]), name
