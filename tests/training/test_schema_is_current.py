"""The checked-in descriptions of arguments against the libraries that are installed."""

import warnings
from pathlib import Path
from typing import Any, get_args

import pytest

from core.arguments import (
    KINDS,
    Kind,
    check_peft,
    check_quantization,
    check_training,
    user_names,
)
from core.arguments.policy import POLICIES
from core.arguments.rules import ArgumentClass
from core.arguments.schema import FOLDER, Field, defaults, fields
from core.arguments.values import check_value

pytestmark = pytest.mark.training

trl = pytest.importorskip("trl", reason="needs the worker extra")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")
schema = pytest.importorskip("worker.schema")

NEEDS_A_GPU = {"bf16", "tf32"}
BASE = {"bf16": False, "activation_checkpointing": False}
"""Left to themselves they want a GPU, and warn of a deprecation."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_what_the_installed_libraries_give(kind: Kind) -> None:
    """When this fails, read `python -m worker.schema --check`, adapt the policy, regenerate."""
    assert schema.differences(kind) == []
    written = (FOLDER / f"{kind}.json").read_text(encoding="utf-8")
    assert written == schema.as_text(schema.derive(kind))


def test_the_architectures_are_those_of_the_installed_library() -> None:
    written = schema.ARCHITECTURES.read_text(encoding="utf-8")

    assert written == schema.as_text(schema.architectures())


@pytest.mark.parametrize("kind", KINDS)
def test_every_argument_of_the_library_has_exactly_one_class(kind: Kind) -> None:
    found = schema.library_fields(kind)
    classes = {
        name: {n for n, rule in POLICIES[kind].rules.items() if rule.argument_class == name}
        for name in get_args(ArgumentClass)
    }

    assert schema.gaps(kind) == []
    assert set.union(*classes.values()) == found.keys()
    assert sum(len(names) for names in classes.values()) == len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_librarys_own_defaults_are_legal(kind: Kind) -> None:
    for name, default in defaults(kind).items():
        if default is not None or "null" in fields(kind)[name]["type"]:
            check_value(f"{kind}.{name}", default, fields(kind)[name])


def test_old_names_are_gone_and_their_names_of_today_are_not() -> None:
    found = schema.library_fields("training").keys()
    policy = POLICIES["training"]

    assert not policy.old_names.keys() & found
    assert not policy.elsewhere.keys() & found
    assert set(policy.old_names.values()) | set(policy.same_as) <= found


def test_a_field_that_the_library_adds_or_drops_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = schema.library_fields("training")
    del found["learning_rate"]
    found["new_thing"] = {"type": ["string"], "default": None}
    found["optim"] = {**found["optim"], "enum": ["adamw_torch"]}
    monkeypatch.setitem(schema._LIBRARY_FIELDS, "training", lambda: found)

    lines = schema.gaps("training")

    assert "training.new_thing: new in the library, has no rule" in lines
    assert "training.learning_rate: not in the library any more" in lines
    assert 'training.optim: the library does not know "sgd"' in lines


@pytest.mark.parametrize("name", user_names("training"))
def test_the_trainer_takes_the_ends_of_every_legal_range(name: str, tmp_path: Path) -> None:
    """Without a warning of deprecation: under the names that check_training gives them."""
    for value in _ends(fields("training")[name]):
        if name in NEEDS_A_GPU and value:
            continue
        given = {name: value, **_companions(name, value)}
        checked = check_training(given).values
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trl.SFTConfig(output_dir=str(tmp_path), use_cpu=True, **{**BASE, **checked})


ADAPTERS: list[dict[str, Any]] = [
    {
        "target_modules": "all-linear",
        "exclude_modules": ["lm_head"],
        "modules_to_save": ["lm_head"],
    },
    {"target_modules": ["q_proj"], "layers_to_transform": [0], "lora_alpha": 0.5, "r": 512},
    {"layers_to_transform": 3, "bias": "lora_only", "use_rslora": True, "lora_dropout": 0.5},
    {"init_lora_weights": "pissa_niter_16", "ensure_weight_tying": True},
    {"init_lora_weights": "olora", "use_dora": True},
    {"init_lora_weights": False},
]


@pytest.mark.parametrize("given", ADAPTERS)
def test_peft_takes_what_was_checked(given: dict[str, Any]) -> None:
    peft.LoraConfig(task_type="CAUSAL_LM", **check_peft(given).values)


QUANTIZATIONS: list[dict[str, Any]] = [
    {"load_in_8bit": True, "llm_int8_threshold": 6, "llm_int8_skip_modules": ["lm_head"]},
    {"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"},
    *(
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype, "bnb_4bit_quant_type": "nf4"}
        for dtype in ("float32", "float16", "bfloat16", None)
    ),
]


@pytest.mark.parametrize("given", QUANTIZATIONS)
def test_bitsandbytes_takes_what_was_checked(given: dict[str, Any]) -> None:
    transformers.BitsAndBytesConfig(**check_quantization(given).values)


def _ends(field: Field) -> list[Any]:
    if "enum" in field:
        return list(field["enum"])
    if "boolean" in field["type"]:
        return [True, False]
    if "maxLength" in field:
        return ["x", "x" * field["maxLength"]]
    if "properties" in field:
        return [{}]
    low = field.get("minimum", 1 if "integer" in field["type"] else 1e-7)
    high = field.get("maximum", 1 - 1e-9)
    return [low, high]


def _companions(name: str, value: Any) -> dict[str, Any]:
    """What a value cannot be without."""
    if name == "lr_scheduler_type" and value == "cosine_with_min_lr":
        return {"lr_scheduler_kwargs": {"min_lr": 0}}
    if name == "padding_free" and value:
        return {"max_length": None}
    if name == "load_best_model_at_end" and value:
        return {"eval_strategy": "epoch", "save_strategy": "epoch"}
    if name == "save_strategy" and value == "best":
        return {"eval_strategy": "epoch", "metric_for_best_model": "loss"}
    return {}
