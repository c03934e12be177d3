"""Which settings fit into so many bytes, and the smallest change that makes others fit."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from core.model_facts import ModelFacts
from core.plan.memory import fixed_bytes, loading_bytes, predict_peak
from core.plan.settings import TrainSettings, settings_of
from core.refit import ACCUMULATION, CHECKPOINTING, MICRO_BATCH

MARGIN = 0.10
"""How much higher than predicted a peak may be; docs/memory-model.md has what was measured."""
WIDE_MARGIN = 0.25
"""The same for an architecture, a device or a quantisation that was not measured."""
SHORTEST = 64
SMALL_LORA = {"r": 8, "target_modules": "all-linear"}


@dataclass(frozen=True, slots=True)
class Change:
    """What to change in a job's body, in words too, and the peak that it would have."""

    body: dict[str, Any]
    text: str
    peak_memory_bytes: int


def margin_of(facts: ModelFacts, settings: TrainSettings) -> float:
    """How far reality may be above a prediction."""
    is_measured = settings.device == "cpu" and settings.method in ("full", "lora")
    return MARGIN if is_measured and facts.family != "generic" else WIDE_MARGIN


def peak_with_margin(facts: ModelFacts, settings: TrainSettings, correction: float = 1.0) -> float:
    """The peak that a limit must have room for."""
    return with_margin(facts, settings, predict_peak(facts, settings).total * correction)


def with_margin(facts: ModelFacts, settings: TrainSettings, peak_bytes: float) -> float:
    """The same of a peak that was predicted before."""
    return peak_bytes * (1 + margin_of(facts, settings))


def smallest_change(
    facts: ModelFacts, settings: TrainSettings, limit_bytes: int, correction: float = 1.0
) -> Change | None:
    """The first of all changes, the least ones first, that fits; None when none does."""
    for changed, body, text in _changes(facts, settings):
        if peak_with_margin(facts, changed, correction) <= limit_bytes:
            peak = round(predict_peak(facts, changed).total * correction)
            return Change(body, text, peak)
    return None


def advice(
    facts: ModelFacts, settings: TrainSettings, limit_bytes: int, *, while_loading: bool = False
) -> dict[str, Any]:
    """Numbers for a job that found no room: what it needs, what there is, what would fit.

    One that found none `while_loading` is helped by smaller weights alone.
    """
    predicted = (
        loading_bytes(facts, settings) if while_loading else predict_peak(facts, settings).total
    )
    # It has shown that it takes more than the limit, whatever was predicted.
    correction = max(1.0, limit_bytes / predicted)
    change = smallest_change(facts, settings, limit_bytes, correction)
    return {
        "needed_bytes": round(peak_with_margin(facts, settings, correction)),
        "fixed_bytes": fixed_bytes(facts, settings),
        "limit_bytes": limit_bytes,
        "change": change.body if change else None,
        "text": change.text if change else None,
        "changed_bytes": change.peak_memory_bytes if change else None,
    }


def divisors(number: int, most: int = 1024) -> list[int]:
    """All micro-batches that make an effective batch, the largest first."""
    return [size for size in range(min(number, most), 0, -1) if number % size == 0]


_Candidate = tuple[TrainSettings, dict[str, Any], str]


def _changes(facts: ModelFacts, settings: TrainSettings) -> Iterator[_Candidate]:
    yield from _splits(settings, {}, "")
    smaller = settings
    if settings.method == "full":
        lora = settings_of(facts, {}, peft=SMALL_LORA)
        smaller = dataclasses.replace(
            settings,
            method="lora",
            lora_parameters=lora.lora_parameters,
            adapted_width=lora.adapted_width,
        )
        yield from _splits(smaller, {"peft": SMALL_LORA}, "LoRA (r=8)", whole=True)
    peft = {"peft": SMALL_LORA} if settings.method == "full" else {}
    for bits in (8, 4):
        if settings.method in ("lora_4bit", f"lora_{bits}bit"):
            continue
        packed = dataclasses.replace(smaller, method="lora_8bit" if bits == 8 else "lora_4bit")
        body = peft | {"quantization": {f"load_in_{bits}bit": True}}
        yield from _splits(packed, body, f"LoRA on a base in {bits} bits", whole=True)
    length = settings.length // 2
    while length >= SHORTEST:
        one = settings.split(1, checkpointing=True)
        shorter = dataclasses.replace(one, length=length)
        yield (
            shorter,
            {"training": _training(shorter) | {"max_length": length}},
            (f"micro-batch 1 with activation checkpointing, and rows cut at {length} tokens"),
        )
        length //= 2


def _splits(
    settings: TrainSettings, body: dict[str, Any], text: str, *, whole: bool = False
) -> Iterator[_Candidate]:
    """Smaller and smaller micro-batches of these settings, then the same checkpointed."""
    for checkpointing in dict.fromkeys((settings.checkpointing, True)):
        for size in divisors(settings.effective_batch):
            is_same = size == settings.micro_batch and checkpointing == settings.checkpointing
            if size > settings.micro_batch or (is_same and not whole):
                continue
            split = settings.split(size, checkpointing=checkpointing)
            words = [text] if text else []
            if size != settings.micro_batch:
                words.append(f"micro-batch {size} x accumulation {split.accumulation}")
            if checkpointing and not settings.checkpointing:
                words.append("activation checkpointing")
            yield split, body | {"training": _training(split)}, ", ".join(words)


def _training(settings: TrainSettings) -> dict[str, Any]:
    return {
        MICRO_BATCH: settings.micro_batch,
        ACCUMULATION: settings.accumulation,
        CHECKPOINTING: settings.checkpointing,
    }
