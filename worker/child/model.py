"""Loads models and tokenizers from folders, without network, pickles or foreign code."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from worker.child.failure import ChildFailure
from worker.child.order import Order

KERNEL_SETTINGS = ("attn_implementation", "experts_implementation")
PLAIN_NAME = re.compile(r"\w+")


def load_model(order: Order) -> PreTrainedModel | PeftModel:
    """The model to train; with `adapter_dir`, a PeftModel whose adapter is trainable."""
    _check_index(order)
    model, info = AutoModelForCausalLM.from_pretrained(
        order.model_dir, config=_config(order), output_loading_info=True, **_arguments(order)
    )
    missing = sorted(info["missing_keys"])
    if missing:
        message = f"{order.public_model} lacks the weights {', '.join(missing[:3])}"
        more = f" and {len(missing) - 3} others" if len(missing) > 3 else ""
        raise ChildFailure("invalid_model", f"{message}{more}.", param="model")
    if order.adapter_dir is None:
        return model
    if order.peft is not None:
        raise ChildFailure(
            "invalid_argument",
            f"{order.public_model} is an adapter, which is trained on as it is: leave out peft.",
            param="peft",
        )
    return PeftModel.from_pretrained(model, order.adapter_dir, is_trainable=True)


def load_tokenizer(order: Order) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the model, with the user's chat template."""
    tokenizer = AutoTokenizer.from_pretrained(
        order.model_dir, local_files_only=True, trust_remote_code=False
    )
    if order.chat_template is not None:
        tokenizer.chat_template = order.chat_template
    return tokenizer


def adapter_config(order: Order) -> LoraConfig | None:
    """The LoRA to put on the model; None trains what is there."""
    if order.peft is None:
        return None
    return LoraConfig(task_type="CAUSAL_LM", **order.peft)


def _config(order: Order) -> PreTrainedConfig:
    """The model's configuration, which computes attention with torch's own code and no other."""
    file = order.model_dir / "config.json"
    if not file.is_file():
        raise ChildFailure(
            "model_not_found", f"{order.public_model} has no config.json.", param="model"
        )
    _check_kernels(json.loads(file.read_bytes()), order)
    config = AutoConfig.from_pretrained(
        order.model_dir, local_files_only=True, trust_remote_code=False
    )
    # What stands in the file would win over a keyword of the model's loader.
    config._attn_implementation = "sdpa"
    return config


def _check_kernels(value: Any, order: Order, *, chooses_code: bool = False) -> None:
    """A configuration may name a repository with native code, to be downloaded and run."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for name, inner in value.items():
            chooses = chooses_code or str(name).endswith(KERNEL_SETTINGS)
            _check_kernels(inner, order, chooses_code=chooses)
    elif chooses_code and value is not None and not PLAIN_NAME.fullmatch(str(value)):
        raise ChildFailure(
            "invalid_model",
            f"The config.json of {order.public_model} names code to be run: {value!r}.",
            param="model",
        )


def _check_index(order: Order) -> None:
    """An index may name any file of this machine as weights, and the library would load it."""
    index = order.model_dir / "model.safetensors.index.json"
    if not index.is_file():
        return
    for name in json.loads(index.read_bytes())["weight_map"].values():
        if Path(name).name != name:
            raise ChildFailure(
                "invalid_model",
                f"{order.public_model} names weights outside of its folder: {name!r}.",
                param="model",
            )


def _arguments(order: Order) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, order.dtype),
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    if order.quantization is not None:
        arguments["quantization_config"] = BitsAndBytesConfig(**order.quantization)
        arguments["device_map"] = {"": 0 if order.device == "cuda" else "cpu"}
    return arguments
