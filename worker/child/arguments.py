"""Makes the trainer's configuration of an order: the user's arguments, and ours over them."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig
from trl import SFTConfig

from worker.child.failure import ChildFailure
from worker.child.order import Order

DEFAULT_MAX_LENGTH: Any = next(f.default for f in fields(SFTConfig) if f.name == "max_length")

SERVICE = (
    "save_strategy",
    "save_total_limit",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "assistant_only_loss",
    "completion_only_loss",
    "dataset_text_field",
)
"""Arguments that the service carries out; the trainer gets others in their place."""


def build_arguments(order: Order, model: PreTrainedConfig) -> SFTConfig:
    """The configuration to train with; ChildFailure for what the trainer does not accept."""
    user = {name: value for name, value in order.training.items() if name not in SERVICE}
    defaults = {
        "bf16": False,
        "max_length": min(DEFAULT_MAX_LENGTH, _positions(model)),
        "eval_strategy": _eval_strategy(order),
    }
    save = {"save_strategy": order.training.get("save_strategy", "steps")}
    arguments: dict[str, Any] = defaults | save | user
    if arguments["save_strategy"] == "best":
        # Each evaluated step is a candidate; the service keeps the best of them.
        arguments["save_strategy"] = arguments["eval_strategy"]
        if "eval_steps" in user:
            arguments["save_steps"] = user["eval_steps"]
    # SFTConfig's default is on; here the user asks for it. The second name is the older one.
    checkpointing = arguments.pop("gradient_checkpointing", None)
    arguments.setdefault("activation_checkpointing", bool(checkpointing))
    _check_length(order, model)
    _check_offloading(order)
    try:
        return SFTConfig(**arguments | _of_operator(order))
    except (ValueError, TypeError) as error:
        raise ChildFailure("invalid_argument", str(error), param="training") from error


def resolved_arguments(order: Order, arguments: SFTConfig, names: Iterable[str]) -> dict[str, Any]:
    """The value of each of these arguments that is in force."""
    used = arguments.to_dict()
    values = {name: used[name] for name in sorted(names) if name in used}
    return values | {name: order.training[name] for name in SERVICE if name in order.training}


def _of_operator(order: Order) -> dict[str, Any]:
    return {
        "output_dir": str(order.scratch / "output"),
        "seed": order.seed,
        "use_cpu": order.device == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        # The default hides a loss that is not finite.
        "logging_nan_inf_filter": False,
        "save_only_model": False,
        "save_total_limit": None,
        "load_best_model_at_end": False,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "trust_remote_code": False,
        "push_to_hub": False,
        "dataloader_pin_memory": order.device == "cuda",
    }


def _eval_strategy(order: Order) -> str:
    if order.eval is None:
        return "no"
    return "steps" if "eval_steps" in order.training else "epoch"


def _check_length(order: Order, model: PreTrainedConfig) -> None:
    length, limit = order.training.get("max_length"), _positions(model)
    if length is not None and length > limit:
        raise ChildFailure(
            "invalid_argument",
            f"max_length is {length}, but this model reads at most {limit} tokens.",
            param="training.max_length",
        )


def _check_offloading(order: Order) -> None:
    if order.training.get("activation_offloading") and order.device == "cpu":
        raise ChildFailure(
            "invalid_argument",
            "activation_offloading moves memory from a GPU to the host; this worker has no GPU.",
            param="training.activation_offloading",
        )


def _positions(model: PreTrainedConfig) -> int:
    """How many tokens the model can read at once."""
    text = model.get_text_config()
    return int(getattr(text, "max_position_embeddings", None) or DEFAULT_MAX_LENGTH)
