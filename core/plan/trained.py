"""The prediction once more, for the rows that were really trained.

A plan is made for rows of max_length, before anything is tokenized. What a run has measured can
teach something about the arithmetic only beside what the arithmetic says of the run's own rows.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from core.model_facts import ModelFacts
from core.plan.memory import predict_peak
from core.plan.pace import guess_seconds
from core.plan.settings import TrainSettings, row_length

EVEN = 0.95
"""Rows whose mean is so much of the longest fill the micro-batches that are predicted."""
MASKED = 0.05
"""The child makes no logits where nothing is learned; so few are not missed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What was trained, as the data report counts it."""

    facts: ModelFacts
    settings: TrainSettings
    is_filled: bool
    """Whether the peak that is predicted must have been reached: rows even, and learned whole."""

    @classmethod
    def of(
        cls, basis: Mapping[str, Any], training: Mapping[str, Any], report: Mapping[str, Any]
    ) -> Self:
        """From the basis of a job's plan, its arguments, and its report."""
        facts = ModelFacts(**_known(ModelFacts, basis["model"]))
        planned = TrainSettings(**_known(TrainSettings, basis["settings"]))
        rows = report["train"]
        limit = row_length(facts, training)
        # Packs are filled up to the limit, unless all rows together are shorter.
        longest = rows["longest_row_tokens"] if planned.is_padded else rows["tokens"]
        length, sequences = max(1, min(longest, limit)), max(1, rows["sequences"])
        micro_batch = min(planned.micro_batch, sequences)
        settings = dataclasses.replace(
            planned,
            micro_batch=micro_batch,
            accumulation=min(planned.accumulation, math.ceil(sequences / micro_batch)),
            length=length,
            mean_length=rows["tokens"] / sequences,
            **_evaluated(planned, report["eval"], limit),
        )
        is_even = rows["tokens"] >= EVEN * length * sequences
        return cls(facts, settings, is_even and rows["masked_fraction"] <= MASKED)

    @property
    def peak_bytes(self) -> int:
        """By the model alone."""
        return predict_peak(self.facts, self.settings).total

    def seconds_per_step(self, *, cpus: int) -> float:
        """By the model alone, on so many cores."""
        return guess_seconds(self.facts, self.settings, cpus=cpus)


def basis_of(facts: ModelFacts, settings: TrainSettings) -> dict[str, Any]:
    """What a prediction is made of, to be kept with a job's plan."""
    return {"model": asdict(facts), "settings": asdict(settings)}


def without_basis(plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A job's plan as people are told it."""
    return None if plan is None else {name: plan[name] for name in plan if name != "basis"}


def _evaluated(
    planned: TrainSettings, rows: Mapping[str, Any] | None, limit: int
) -> dict[str, Any]:
    if rows is None:
        return {"eval_batch": 0}
    return {
        "eval_batch": min(planned.eval_batch, rows["sequences"]),
        "eval_length": min(rows["longest_row_tokens"], limit),
    }


def _known(kind: type[ModelFacts | TrainSettings], values: Mapping[str, Any]) -> dict[str, Any]:
    """A plan may be older or newer than the worker that has trained by it."""
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: values[name] for name in names if name in values}
