"""Settings that are right alone and wrong together."""

from collections.abc import Mapping

import pytest

from core.arguments import check_peft, check_quantization, check_training
from core.errors import InvalidArgument


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"bf16": True, "fp16": True}, "fp16"),
        ({"packing": True, "max_length": None}, "max_length"),
        ({"eval_packing": True, "max_length": None}, "max_length"),
        ({"padding_free": True}, "padding_free"),
        ({"lr_scheduler_kwargs": {"num_cycles": 2}}, "lr_scheduler_kwargs.num_cycles"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_kwargs"),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1e-3}},
            "lr_scheduler_kwargs.lr_end",
        ),
        ({"save_strategy": "best"}, "save_strategy"),
        ({"save_strategy": "best", "eval_strategy": "steps"}, "save_strategy"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch"}, "load_best_model_at_end"),
        (
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 300},
            "load_best_model_at_end",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    arguments: Mapping[str, object], param: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_training(arguments)

    assert caught.value.param == f"training.{param}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"bf16": "auto", "fp16": True},
        {"padding_free": True, "packing": True},
        {"padding_free": True, "max_length": None},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
        {
            "learning_rate": "auto",
            "lr_scheduler_type": "polynomial",
            "lr_scheduler_kwargs": {"lr_end": 1e-3},
        },
        {"save_strategy": "best", "eval_strategy": "epoch", "metric_for_best_model": "loss"},
        {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 250},
        {
            "load_best_model_at_end": True,
            "eval_strategy": "steps",
            "eval_steps": 0.1,
            "save_steps": 0.3,
        },
    ],
)
def test_settings_that_go_together_are_accepted(arguments: Mapping[str, object]) -> None:
    assert check_training(arguments).values == arguments


def test_adapters_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_peft({"target_modules": ["model.lm_head"]})
    assert caught.value.param == "peft.target_modules"

    with pytest.raises(InvalidArgument) as caught:
        check_peft({"target_modules": "all-linear", "layers_to_transform": [0]})
    assert caught.value.param == "peft.layers_to_transform"


@pytest.mark.parametrize("given", [{}, {"load_in_4bit": True, "load_in_8bit": True}])
def test_quantization_is_either_in_4_bit_or_in_8_bit(given: Mapping[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="exactly one"):
        check_quantization(given)


def test_a_quantization_setting_without_effect_warns() -> None:
    checked = check_quantization({"load_in_8bit": True, "bnb_4bit_quant_type": "nf4"})

    assert checked.warnings == ('"bnb_4bit_quant_type" has no effect without "load_in_4bit".',)


def test_a_threshold_is_never_a_whole_number() -> None:
    checked = check_quantization({"load_in_8bit": True, "llm_int8_threshold": 6})

    assert type(checked.values["llm_int8_threshold"]) is float


def test_one_setting_under_two_names_must_say_the_same() -> None:
    same = {"max_seq_length": 512, "max_length": 512}
    assert check_training(same).values == {"max_length": 512}

    with pytest.raises(InvalidArgument) as caught:
        check_training({"activation_checkpointing": True, "gradient_checkpointing": False})
    assert caught.value.param == "training.gradient_checkpointing"
