"""Loads models and tokenizers from folders, without network, pickles or foreign code."""

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

from core.errors import InvalidModel
from core.model_check import check_adapter, check_model
from worker.child.failure import ChildFailure
from worker.child.order import Order


def check_folders(order: Order) -> None:
    """Refuse what the worker should have refused: from here on the libraries do as it says."""
    if not (order.model_dir / "config.json").is_file():
        raise ChildFailure(
            "model_not_found", f"{order.public_model} has no config.json.", param="model"
        )
    try:
        check_model(order.public_model, order.model_dir)
        if order.adapter_dir is not None:
            check_adapter(order.public_model, order.adapter_dir)
    except InvalidModel as error:
        raise ChildFailure("invalid_model", error.message, param="model") from error


def load_model(order: Order) -> PreTrainedModel | PeftModel:
    """The model to train; with `adapter_dir`, a PeftModel whose adapter is trainable."""
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
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            order.model_dir, local_files_only=True, trust_remote_code=False
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever the libraries raise, these files made them
        said = str(error).strip().partition("\n")[0][:200]
        raise ChildFailure(
            "invalid_model",
            f"The tokenizer of {order.public_model} cannot be loaded: "
            f"{type(error).__name__}: {said}",
            param="model",
        ) from error
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
    config = AutoConfig.from_pretrained(
        order.model_dir, local_files_only=True, trust_remote_code=False
    )
    # What stands in the file would win over a keyword of the model's loader.
    config._attn_implementation = "sdpa"
    return config


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
