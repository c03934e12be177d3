"""Plans a checked request: the options, the verdict of each worker, what "auto" becomes."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from core.db import DEFAULT_PROJECT
from core.errors import TuneyardError
from core.model_facts import ModelFacts
from core.models import File, Worker
from core.plan.amount import Amount, Course, choose_epochs, course_of
from core.plan.batch import AUTO, batch_of
from core.plan.experience import learned
from core.plan.fit import margin_of, smallest_change
from core.plan.memory import FLOAT, OPTIMIZER_BYTES, trained_parameters
from core.plan.options import Option, all_options, best_option, make_option
from core.plan.reader import FactsReader
from core.plan.settings import TrainSettings, check_length, settings_of
from core.plan.trained import basis_of
from core.refit import ACCUMULATION, CHECKPOINTING, MICRO_BATCH
from core.room import Fleet
from core.workers import cpus_of, memory_of

DEFAULT_SAVE_STEPS = 500
LEARNING_RATES = {"full": 2e-5, "adapters": 2e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """A checked request; "auto" is still in `training`."""

    training: Mapping[str, Any]
    base_model: str
    peft: Mapping[str, Any] | None = None
    quantization: Mapping[str, Any] | None = None
    memory_bytes: int | None = None
    effective_batch_size: int | None = None
    file: File | None = None
    has_evaluation: bool = False
    project_id: str = DEFAULT_PROJECT


@dataclass(slots=True)
class Decision:
    """The trainer's arguments without "auto", and the plan that they follow from."""

    training: dict[str, Any]
    taken: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)


def decide(session: Session, request: PlanRequest, reader: FactsReader, fleet: Fleet) -> Decision:
    """The plan of a job. A model that cannot be read leaves "auto" to the trainer's defaults."""
    try:
        facts = reader.read(session, request.base_model, project_id=request.project_id)
    except TuneyardError as error:
        return _unplanned(request, error.message)
    return _Planner(session, request, facts, fleet).decide()


def plan(
    session: Session, request: PlanRequest, reader: FactsReader, fleet: Fleet
) -> dict[str, Any]:
    """The plan for people; raises where `decide` would do without one."""
    facts = reader.read(session, request.base_model, project_id=request.project_id)
    return _Planner(session, request, facts, fleet).answer()


def _unplanned(request: PlanRequest, why: str) -> Decision:
    training = {name: value for name, value in request.training.items() if value != AUTO}
    is_asked = AUTO in request.training.values() or request.effective_batch_size is not None
    if request.effective_batch_size is not None:
        batch = batch_of(request.training, request.effective_batch_size)
        split = next(split for split in batch.splits if split[0] <= 8 or len(batch.splits) == 1)
        training |= dict(zip((MICRO_BATCH, ACCUMULATION), split, strict=True))
    text = f'"auto" is left to the trainer\'s defaults, since nothing could be planned: {why}'
    return Decision(training, warnings=[text] if is_asked else [])


class _Planner:
    def __init__(self, session: Session, request: PlanRequest, facts: ModelFacts, fleet: Fleet):
        self._request = request
        self._facts = facts
        self._amount = Amount.of(request.file)
        self._reasons: dict[str, str] = {}
        self._warnings: list[str] = []
        self._workers = fleet.workers
        self._training = self._without_simple_autos()
        self._batch = batch_of(request.training, request.effective_batch_size)
        self._settings = self._make_settings()
        first = self._workers[0] if self._workers else None
        self._cpus = cpus_of(first)
        self._experience = learned(
            session, facts, self._settings, worker=first.name if first else None
        )
        self._limit = self._find_limit()

    def decide(self) -> Decision:
        """What a job takes. The other options are for people who ask, and left out."""
        taken, course = self._decided()
        return Decision(self._training, self._on_job(taken, course), self._warnings)

    def answer(self) -> dict[str, Any]:
        """The same, beside all that could be taken."""
        options = all_options(
            self._facts, self._settings, cpus=self._cpus, experience=self._experience
        )
        taken, course = self._decided()
        return self._answer(options, taken, course)

    def _decided(self) -> tuple[Option, Course]:
        taken = self._take()
        self._settle(taken)
        course = course_of(
            self._amount,
            self._training,
            effective=self._batch.effective,
            length=self._settings.length,
        )
        self._warn(taken)
        return taken, course

    def _without_simple_autos(self) -> dict[str, Any]:
        """All that "auto" means apart from the split."""
        given = self._request.training
        training = {name: value for name, value in given.items() if value != AUTO}
        if given.get("learning_rate") == AUTO:
            kind = "full" if self._request.peft is None else "adapters"
            training["learning_rate"] = LEARNING_RATES[kind]
            self._reasons["learning_rate"] = (
                "usual for all weights" if kind == "full" else "usual for LoRA"
            )
        if given.get("num_train_epochs") == AUTO:
            epochs, why = choose_epochs(self._amount)
            training["num_train_epochs"], self._reasons["num_train_epochs"] = epochs, why
        if given.get("bf16") == AUTO:
            can = bool(self._workers) and all(w.facts.get("bf16") for w in self._workers)
            training["bf16"] = can and not given.get("fp16", False)
            self._reasons["bf16"] = (
                "every worker computes in bfloat16"
                if can
                else "not every worker is known to compute in bfloat16"
            )
        return training

    def _make_settings(self) -> TrainSettings:
        request, facts = self._request, self._facts
        check_length(facts, request.training.get("max_length"))
        micro_batch, accumulation = self._batch.splits[0]
        split = {MICRO_BATCH: micro_batch, ACCUMULATION: accumulation}
        settings = settings_of(
            facts,
            self._training | split,
            peft=request.peft,
            quantization=request.quantization,
            has_evaluation=request.has_evaluation,
        )
        is_cuda = any(worker.facts.get("device") == "cuda" for worker in self._workers)
        return dataclasses.replace(
            settings,
            length=settings.length
            if request.training.get("packing")
            else self._amount.cut(settings.length),
            device="cuda" if is_cuda else "cpu",
            mean_length=self._amount.mean_tokens,
        )

    def _find_limit(self) -> int | None:
        rooms = [room for room in map(self._room, self._workers) if room is not None]
        if self._request.memory_bytes is not None:
            rooms.append(self._request.memory_bytes)
        return min(rooms, default=None)

    def _room(self, worker: Worker) -> int | None:
        """Bytes that one job may take on a worker; None where it does not say."""
        total = memory_of(worker)
        return None if total is None else total // worker.slots

    def _take(self) -> Option:
        """The option of the job: the best that the request leaves open."""
        asked = self._request.training.get(CHECKPOINTING)
        if isinstance(asked, bool):
            modes = [asked]
        else:
            modes = [False, True] if asked == AUTO or self._batch.is_open else [False]
        candidates = [
            make_option(
                self._facts,
                dataclasses.replace(
                    self._settings,
                    micro_batch=micro_batch,
                    accumulation=accumulation,
                    checkpointing=checkpointing,
                ),
                cpus=self._cpus,
                experience=self._experience,
            )
            for micro_batch, accumulation in self._batch.splits
            for checkpointing in modes
        ]
        return best_option(candidates, self._limit)

    def _settle(self, taken: Option) -> None:
        """Write the choice into the trainer's arguments, with its reason."""
        given, settings = self._request.training, taken.settings
        why = self._why(taken)
        if self._batch.is_open:
            self._training[MICRO_BATCH] = settings.micro_batch
            self._training[ACCUMULATION] = settings.accumulation
            self._reasons[MICRO_BATCH] = self._reasons[ACCUMULATION] = why
        if given.get(CHECKPOINTING) == AUTO or (self._batch.is_open and settings.checkpointing):
            self._training[CHECKPOINTING] = settings.checkpointing
            self._reasons["gradient_checkpointing"] = why

    def _why(self, taken: Option) -> str:
        if self._limit is None:
            return "the fastest by the plan; no limit of memory is known"
        place = f"{_gigabytes(self._limit)} of memory"
        if taken.needed_bytes <= self._limit:
            return f"the fastest by the plan that fits into {place}"
        return f"the smallest; even so the plan does not fit into {place}"

    def _warn(self, taken: Option) -> None:
        facts = self._facts
        if facts.family == "generic":
            self._warnings.append(
                f"The architecture {facts.model_type or 'of this model'} was never measured: "
                "memory is predicted as for a Llama, and may be "
                f"{margin_of(facts, taken.settings):.0%} higher."
            )
        if self._limit is not None and taken.needed_bytes > self._limit:
            self._warnings.append(
                f"The training may need {_gigabytes(taken.needed_bytes)}, but there are "
                f"{_gigabytes(self._limit)}."
            )

    def _answer(self, options: list[Option], taken: Option, course: Course) -> dict[str, Any]:
        recommended = best_option(options, self._limit)
        warnings = list(self._warnings)
        if not self._workers:
            warnings.append("No worker is there: time is guessed for two cores.")
        if course.steps is None:
            warnings.append("The rows are not counted yet, so steps and time are unknown.")
        return {
            "object": "fine_tuning.plan",
            "model": self._facts.as_dict(),
            "trained_parameters": trained_parameters(self._facts, self._settings),
            "rows": self._amount.rows,
            "max_length": self._settings.length,
            **self._outline(course),
            "options": [option.as_dict() for option in options],
            "recommended": recommended.as_dict(),
            "taken": taken.as_dict(),
            "total_seconds": _total(recommended, course),
            "margin": margin_of(self._facts, self._settings),
            "training": dict(self._training),
            "workers": [self._verdict(worker, taken) for worker in self._workers],
            "warnings": warnings,
        }

    def _verdict(self, worker: Worker, taken: Option) -> dict[str, Any]:
        room = self._room(worker)
        verdict = {"worker": worker.name, "memory_bytes": room, "change": None}
        if room is None:
            return verdict | {"verdict": "unknown", "reason": "it does not say what memory it has"}
        if self._request.memory_bytes is not None:
            room = min(room, self._request.memory_bytes)
        needed, there = _gigabytes(taken.needed_bytes), _gigabytes(room)
        if taken.needed_bytes <= room:
            return verdict | {"verdict": "fits", "reason": f"needs {needed} of {there}"}
        change = smallest_change(self._facts, taken.settings, room, self._experience.memory)
        if change is None:
            reason = f"needs {needed} of {there}, and no change makes it fit"
            return verdict | {"verdict": "does_not_fit", "reason": reason}
        reason = f"needs {needed} of {there}; it fits with {change.text}"
        return verdict | {"verdict": "fits_with_change", "change": change.body, "reason": reason}

    def _change(self, taken: Option) -> dict[str, Any] | None:
        """What to change in the body when it does not fit, so that it does somewhere."""
        rooms = [room for room in map(self._room, self._workers) if room is not None]
        if not rooms or taken.needed_bytes <= max(rooms):
            return None
        change = smallest_change(self._facts, taken.settings, max(rooms), self._experience.memory)
        return {"text": change.text, "body": change.body} if change else None

    def _checkpoint_bytes(self) -> int:
        """Of one checkpoint: weights and the optimizer's state."""
        trained = trained_parameters(self._facts, self._settings)
        state = OPTIMIZER_BYTES.get(self._settings.optimizer, 8)
        return round((FLOAT + state) * trained)

    def _outline(self, course: Course) -> dict[str, Any]:
        """What the answer says and the job keeps."""
        return {
            "method": self._settings.method,
            "effective_batch_size": self._batch.effective,
            "steps": course.steps,
            "epochs": course.epochs,
            "tokens": course.tokens,
            "checkpoint_bytes": self._checkpoint_bytes(),
            "disk_bytes": self._checkpoint_bytes() * _checkpoints(self._training, course),
            "limit_bytes": self._limit,
            "seconds_are": "measured" if self._experience.timed_runs else "guess",
            "correction": {
                "peak_memory": round(self._experience.memory, 4),
                "runs": self._experience.runs,
                "seconds_per_step": round(self._experience.seconds, 4),
                "timed_runs": self._experience.timed_runs,
            },
            "reasons": dict(self._reasons),
        }

    def _on_job(self, taken: Option, course: Course) -> dict[str, Any]:
        return (
            taken.as_dict()
            | self._outline(course)
            | {
                "family": self._facts.family,
                "total_seconds": _total(taken, course),
                "basis": basis_of(self._facts, taken.settings),
                "needed_bytes": round(taken.needed_bytes),
                "memory_bytes": min(
                    taken.peak_memory_bytes, self._request.memory_bytes or taken.peak_memory_bytes
                ),
                "change": self._change(taken),
            }
        )


def _checkpoints(training: Mapping[str, Any], course: Course) -> int:
    """How many there will be at the end; the last step always leaves one."""
    strategy, steps = training.get("save_strategy", "steps"), course.steps or 1
    count = 1
    if strategy == "steps":
        every = float(training.get("save_steps", DEFAULT_SAVE_STEPS))
        count = math.ceil(steps / (every if every >= 1 else max(1.0, every * steps)))
    elif strategy == "epoch":
        # With as many steps as it may have, of rows that nobody has counted.
        epochs = steps if course.epochs is None else course.epochs
        count = max(1, math.ceil(epochs))
    return min(count, int(training.get("save_total_limit", count)))


def _total(option: Option, course: Course) -> float | None:
    return None if course.steps is None else round(course.steps * option.seconds_per_step, 1)


def _gigabytes(size: float) -> str:
    digits = 1 if size >= 1e10 else 2
    return f"{size / 1e9:.{digits}f} GB"
