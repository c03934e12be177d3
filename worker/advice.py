"""What would fit, in numbers, for a training that has found too little memory."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.errors import TuneyardError
from core.failure import Failure
from core.model_facts import facts_of_folder
from core.plan.fit import advice, peak_with_margin
from core.plan.settings import settings_of

OTHERS = (
    "By its plan the training fits into the {} of this machine, so something else held them: retry "
    "the job when that is over, or give the worker fewer slots (WORKER_SLOTS)."
)


def with_advice(failure: Failure, order: Mapping[str, Any], limit_bytes: int) -> Failure:
    """The failure with the smallest change by which the order would have had room.

    Where what every batch needs is more than there is, it no longer depends on the batch.
    """
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
    evidence = failure.evidence or {}
    while_loading = not evidence["depends_on_batch"]
    settings = replace(settings, device=order["device"])
    is_alone = evidence["memory_limit_bytes"] is not None
    if while_loading and not is_alone and peak_with_margin(facts, settings) <= limit_bytes:
        return replace(failure, suggestion=OTHERS.format(_gigabytes(limit_bytes)))
    told = advice(facts, settings, limit_bytes, while_loading=while_loading)
    # A step that was done has shown that there is room for what every step needs.
    depends = not while_loading and (evidence["step"] > 0 or told["fixed_bytes"] <= limit_bytes)
    evidence = evidence | {"advice": told, "depends_on_batch": depends}
    words = " ".join(_in_words(told, depends_on_batch=depends))
    return replace(failure, evidence=evidence, suggestion=words)


def _in_words(told: Mapping[str, Any], *, depends_on_batch: bool) -> Iterator[str]:
    yield f"There is room for {_gigabytes(told['limit_bytes'])}, and that is too little."
    if not depends_on_batch:
        yield (
            "A smaller micro-batch does not help: without any, the training takes at least "
            f"{_gigabytes(told['fixed_bytes'])}."
        )
    if told["change"] is None:
        yield "No change makes it fit: take a smaller model or a larger machine."
        return
    yield (
        f"With {told['text']} it takes about {_gigabytes(told['changed_bytes'])}; "
        "attempts[].error.evidence.advice.change has it as the body of a new job."
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"
