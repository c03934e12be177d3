"""Sample prompts are answered along the way, and the training does not notice."""

import pytest

from tests.training.conftest import OrderFactory
from tests.training.running import run_child
from worker.child.samples import MAX_NEW_TOKENS

pytestmark = pytest.mark.training

PROMPTS = ["The value of", "A function that " * 200]
DROPOUT = "opt"


@pytest.mark.parametrize("peft", [None, {"r": 4, "lora_dropout": 0.3}])
def test_looking_at_the_model_changes_no_loss(make_order: OrderFactory, peft: object) -> None:
    """A model with dropout draws random numbers at every step: one more would show."""
    plain = run_child(make_order(DROPOUT, peft=peft))
    watched = run_child(make_order(DROPOUT, peft=peft, sample_prompts=PROMPTS))

    assert watched.metric("train_loss") == plain.metric("train_loss") != {}
    assert watched.metric("grad_norm") == plain.metric("grad_norm")


def test_each_checkpoint_answers_and_so_does_the_start(make_order: OrderFactory) -> None:
    run = run_child(make_order(sample_prompts=PROMPTS))

    looks = run.of("samples")
    assert [look["step"] for look in looks] == [0, 3, 6]
    for look in looks:
        assert [sample["prompt"] for sample in look["samples"]] == PROMPTS
        assert all(len(sample["completion"]) < 20 * MAX_NEW_TOKENS for sample in look["samples"])
    assert looks[0]["samples"] != looks[-1]["samples"]


def test_recomputed_activations_do_not_disturb_the_answers(make_order: OrderFactory) -> None:
    """Checkpointed models forbid the cache that generation needs, but only while they train."""
    training = {"gradient_checkpointing": True}

    plain = run_child(make_order(training=training))
    watched = run_child(make_order(training=training, sample_prompts=PROMPTS))

    assert watched.metric("train_loss") == plain.metric("train_loss")
    assert all(
        "completion" in sample for look in watched.of("samples") for sample in look["samples"]
    )
