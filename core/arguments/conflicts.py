"""Arguments that are right alone and wrong together. What the trainer would refuse hours later."""

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import InvalidArgument

Arguments = Mapping[str, Any]
"""Given values over the library's defaults; a value may still be "auto"."""

SCHEDULER_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "cosine": frozenset({"num_cycles"}),
    "cosine_with_restarts": frozenset({"num_cycles"}),
    "cosine_with_min_lr": frozenset({"num_cycles", "min_lr", "min_lr_rate"}),
    "polynomial": frozenset({"lr_end", "power"}),
}


def refuse_training_conflicts(arguments: Arguments) -> None:
    """Raise InvalidArgument for the first pair of `training` that contradicts itself."""
    for check in _TRAINING_CHECKS:
        check(arguments)


def refuse_peft_conflicts(arguments: Arguments) -> None:
    """Raise InvalidArgument for the first pair of `peft` that contradicts itself."""
    targets = arguments["target_modules"]
    if targets == "all-linear" and arguments["layers_to_transform"] is not None:
        raise InvalidArgument(
            '"layers_to_transform" needs "target_modules" to be a list of module names.',
            param="peft.layers_to_transform",
        )
    if isinstance(targets, list) and any(name.split(".")[-1] == "lm_head" for name in targets):
        raise InvalidArgument(
            '"target_modules" cannot have "lm_head": its adapter would never be trained.'
            ' To train that layer in full, put it in "modules_to_save".',
            param="peft.target_modules",
        )


def refuse_quantization_conflicts(arguments: Arguments) -> None:
    """Raise InvalidArgument unless exactly one of 4 bit and 8 bit is chosen."""
    if arguments["load_in_4bit"] == arguments["load_in_8bit"]:
        raise InvalidArgument(
            'Set exactly one of "load_in_4bit" and "load_in_8bit" to true.',
            param="quantization.load_in_8bit"
            if arguments["load_in_8bit"]
            else "quantization.load_in_4bit",
        )


def _check_precision(arguments: Arguments) -> None:
    if arguments["bf16"] is True and arguments["fp16"] is True:
        raise _conflict("fp16", '"bf16" and "fp16" cannot both be true.')


def _check_packing(arguments: Arguments) -> None:
    packing = arguments["packing"]
    if arguments["max_length"] is None:
        for name in ("packing", "eval_packing"):
            if arguments[name]:
                raise _conflict("max_length", f'"{name}" needs a "max_length" to fill, not null.')
    elif arguments["padding_free"] and not packing:
        raise _conflict(
            "padding_free",
            '"padding_free" does not cut rows at "max_length".'
            ' Set "packing" to true, or "max_length" to null.',
        )


def _check_scheduler(arguments: Arguments) -> None:
    scheduler, given = arguments["lr_scheduler_type"], arguments["lr_scheduler_kwargs"] or {}
    allowed = SCHEDULER_ARGUMENTS.get(scheduler, frozenset())
    for name in given:
        if name not in allowed:
            raise _conflict(
                f"lr_scheduler_kwargs.{name}",
                f'"lr_scheduler_type" "{scheduler}" does not take "{name}".',
            )
    if scheduler == "cosine_with_min_lr" and ("min_lr" in given) == ("min_lr_rate" in given):
        raise _conflict(
            "lr_scheduler_kwargs",
            '"lr_scheduler_type" "cosine_with_min_lr" needs one of "min_lr" and "min_lr_rate"'
            ' in "lr_scheduler_kwargs".',
        )


def _check_final_learning_rate(arguments: Arguments) -> None:
    peak, last = arguments["learning_rate"], (arguments["lr_scheduler_kwargs"] or {}).get("lr_end")
    if last is not None and not isinstance(peak, str) and last >= peak:
        raise _conflict(
            "lr_scheduler_kwargs.lr_end", f'"lr_end" must be below "learning_rate", {peak}.'
        )


def _check_best(arguments: Arguments) -> None:
    saves_best = arguments["save_strategy"] == "best"
    if not saves_best and not arguments["load_best_model_at_end"]:
        return
    name = "save_strategy" if saves_best else "load_best_model_at_end"
    if arguments["eval_strategy"] == "no":
        raise _conflict(
            name,
            f'"{name}" asks for the best checkpoint, which only evaluation knows:'
            ' set "eval_strategy" to "steps" or "epoch".',
        )
    if not saves_best:
        _check_best_is_saved(arguments)
    elif arguments["metric_for_best_model"] is None and not arguments["load_best_model_at_end"]:
        raise _conflict(name, '"save_strategy" "best" needs a "metric_for_best_model".')


def _check_best_is_saved(arguments: Arguments) -> None:
    name, when = "load_best_model_at_end", arguments["eval_strategy"]
    if arguments["save_strategy"] != when:
        raise _conflict(
            name, f'"load_best_model_at_end" needs "save_strategy" "{when}", like "eval_strategy".'
        )
    save_every = arguments["save_steps"]
    eval_every = arguments["eval_steps"] or arguments["logging_steps"]
    if when == "steps" and not _is_multiple(save_every, eval_every):
        raise _conflict(
            name,
            f'"load_best_model_at_end" needs "save_steps" ({save_every}) to be a multiple of'
            f' "eval_steps" ({eval_every}).',
        )


def _is_multiple(save_every: float, eval_every: float) -> bool:
    if (save_every < 1) != (eval_every < 1):
        return False
    # Shares are compared as the trainer does it, without the rounding errors of 0.3 % 0.1.
    scale = 1_000_000 if save_every < 1 else 1
    return save_every % eval_every == 0 or (save_every * scale) % (eval_every * scale) == 0


def _conflict(name: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, param=f"training.{name}")


_TRAINING_CHECKS: tuple[Callable[[Arguments], None], ...] = (
    _check_precision,
    _check_packing,
    _check_scheduler,
    _check_final_learning_rate,
    _check_best,
)
