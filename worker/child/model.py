"""Loads models and tokenizers from folders, without network, pickles or foreign code."""

from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from worker.child.failure import ChildFailure
from worker.child.order import Order


def load_model(order: Order) -> PreTrainedModel | PeftModel:
    """The model to train; with `adapter_dir`, a PeftModel whose adapter is trainable."""
    if not (order.model_dir / "config.json").is_file():
        raise ChildFailure(
            "model_not_found", f"{order.public_model} has no config.json.", param="model"
        )
    model, info = AutoModelForCausalLM.from_pretrained(
        order.model_dir, output_loading_info=True, **_arguments(order)
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
            f"{order.public_model} is an adapter already and is trained on as it is: leave out peft.",
            param="peft",
        )
    return PeftModel.from_pretrained(model, order.adapter_dir, is_trainable=True)


def load_tokenizer(order: Order) -> PreTrainedTokenizerBase:
    """The tokenizer that comes with the model."""
    return AutoTokenizer.from_pretrained(
        order.model_dir, local_files_only=True, trust_remote_code=False
    )


def adapter_config(order: Order) -> LoraConfig | None:
    """The LoRA to put on the model; None trains what is there."""
    if order.peft is None:
        return None
    return LoraConfig(task_type="CAUSAL_LM", **order.peft)


def _arguments(order: Order) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "dtype": getattr(torch, order.dtype),
        # A config.json may name a kernel to download and run; this keyword wins over it.
        "attn_implementation": "sdpa",
        "use_safetensors": True,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    if order.quantization is not None:
        arguments["quantization_config"] = BitsAndBytesConfig(**order.quantization)
        arguments["device_map"] = {"": 0 if order.device == "cuda" else "cpu"}
    return arguments
