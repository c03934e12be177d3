"""What would fit, in numbers, for a training that has found too little memory."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import TuneyardError
from core.failure import Failure
from core.model_facts import facts_of_folder
from core.plan.fit import advice
from core.plan.settings import settings_of


def with_advice(failure: Failure, order: Mapping[str, Any], limit_bytes: int) -> Failure:
    """The failure with the smallest change by which the order would have had room."""
    try:
        facts = facts_of_folder(order["public_model"], Path(order["model_dir"]))
    except TuneyardError:
        # Whatever the model is, it was loaded; only the planner cannot read it.
        return failure
    settings = settings_of(
        facts,
        order["training"],
        peft=order["peft"],
        quantization=order["quantization"],
        has_evaluation=order["eval"] is not None,
    )
    told = advice(facts, replace(settings, device=order["device"]), limit_bytes)
    evidence = (failure.evidence or {}) | {"advice": told}
    return replace(failure, evidence=evidence, suggestion=_in_words(told))


def _in_words(told: Mapping[str, Any]) -> str:
    needed = f"There is room for {_gigabytes(told['limit_bytes'])}, and that is too little. "
    if told["change"] is None:
        return needed + "No change makes it fit: take a smaller model or a larger machine."
    return (
        f"{needed}With {told['text']} it takes about {_gigabytes(told['changed_bytes'])}; "
        "attempts[].error.evidence.advice.change has it as the body of a new job."
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"
