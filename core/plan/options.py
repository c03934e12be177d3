"""The ways to make one effective batch, what each takes, and which of them to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.model_facts import ModelFacts
from core.plan.fit import divisors, with_margin
from core.plan.memory import predict_peak
from core.plan.pace import guess_seconds
from core.plan.settings import TrainSettings

MOST_OPTIONS = 16


@dataclass(frozen=True, slots=True)
class Experience:
    """What finished runs of the same family, method and size say about the predictions."""

    memory: float = 1.0
    """Measured peak by predicted peak."""
    runs: int = 0
    seconds: float = 1.0
    """Measured time of a step by the guessed one, on this machine."""
    timed_runs: int = 0


@dataclass(frozen=True, slots=True)
class Option:
    """One split of the effective batch, and what it takes."""

    settings: TrainSettings
    terms: dict[str, int]
    moment: str
    seconds_per_step: float
    needed_bytes: float
    """The peak with its margin: what a limit must have room for."""

    @property
    def peak_memory_bytes(self) -> int:
        """All terms together."""
        return sum(self.terms.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "per_device_train_batch_size": self.settings.micro_batch,
            "gradient_accumulation_steps": self.settings.accumulation,
            "gradient_checkpointing": self.settings.checkpointing,
            "bf16": self.settings.bf16,
            "peak_memory_bytes": self.peak_memory_bytes,
            "terms": self.terms,
            "peak_at": self.moment,
            "seconds_per_step": round(self.seconds_per_step, 4),
        }


def make_option(
    facts: ModelFacts, settings: TrainSettings, *, cpus: int, experience: Experience
) -> Option:
    """What these settings take, corrected by what was measured before."""
    peak = predict_peak(facts, settings)
    return Option(
        settings=settings,
        terms={name: round(value * experience.memory) for name, value in peak.terms.items()},
        moment=peak.moment,
        seconds_per_step=guess_seconds(facts, settings, cpus=cpus) * experience.seconds,
        needed_bytes=with_margin(facts, settings, peak.total * experience.memory),
    )


def all_options(
    facts: ModelFacts, settings: TrainSettings, *, cpus: int, experience: Experience
) -> list[Option]:
    """Every split of the effective batch, with and without checkpointing."""
    sizes = divisors(settings.effective_batch)
    if len(sizes) > MOST_OPTIONS:
        # The two ends say most; between them every second one will do.
        sizes = [*sizes[:4], *sizes[4:-4:2], *sizes[-4:]]
    return [
        make_option(
            facts,
            settings.split(size, checkpointing=checkpointing),
            cpus=cpus,
            experience=experience,
        )
        for checkpointing in (False, True)
        for size in sizes
    ]


def best_option(options: Sequence[Option], limit_bytes: int | None) -> Option:
    """The fastest that fits; when none does, the smallest."""
    fitting = [o for o in options if limit_bytes is None or o.needed_bytes <= limit_bytes]
    if fitting:
        return min(fitting, key=lambda option: (option.seconds_per_step, option.peak_memory_bytes))
    return min(options, key=lambda option: option.peak_memory_bytes)
