"""Tells the supervisor how the training goes and stops it when asked. It never touches the loss."""

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from worker.child.failure import StoppedBeforeTraining
from worker.child.trainer import non_finite

METRICS = {
    "loss": "train_loss",
    "mean_token_accuracy": "train_mean_token_accuracy",
    "entropy": "train_entropy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "num_tokens": "num_tokens",
    "aux_loss": "train_aux_loss",
    "epoch": "epoch",
    "eval_loss": "valid_loss",
    "eval_mean_token_accuracy": "valid_mean_token_accuracy",
    "eval_entropy": "valid_entropy",
    "eval_aux_loss": "valid_aux_loss",
}
"""The trainer's names of what it logs, and ours; all else stays with the trainer."""

PROGRESS_SECONDS = 0.25
STEPS_TIMED = 1000


class Record(Protocol):
    """Sends one message to the supervisor."""

    def __call__(self, kind: str, /, **fields: Any) -> None:
        """`kind` is the message's type."""


class JobCallback(TrainerCallback):  # type: ignore[misc]
    """Records steps and metrics, and ends the training at a step boundary when `must_stop` says so.

    The last step always leaves a checkpoint, and so does a stop if `must_save` says so, whatever
    save_strategy is.
    """

    def __init__(
        self,
        record: Record,
        *,
        must_stop: Callable[[], bool],
        must_save: Callable[[], bool],
        held_memory_bytes: Callable[[], int | None],
    ):
        self._record = record
        self._held_memory_bytes = held_memory_bytes
        self._must_stop = must_stop
        self._must_save = must_save
        self._saved_step = -1
        self._progress_at = -math.inf
        self._step_began_at = 0.0
        self._step_seconds: deque[float] = deque(maxlen=STEPS_TIMED)
        self._train_metrics: dict[str, float] = {}
        self._valid_metrics: dict[str, float] = {}

    def metrics_at_save(self) -> dict[str, float]:
        """The newest metrics of training, and those of an evaluation at this very step."""
        return self._train_metrics | self._valid_metrics

    @property
    def seconds_per_step(self) -> float | None:
        """The time of a step, data and saving apart: the median of the newest ones."""
        return median(self._step_seconds) if self._step_seconds else None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Nothing is trained if nothing is left to train."""
        if self._must_stop() or state.global_step >= state.max_steps:
            raise StoppedBeforeTraining(state.global_step, state.max_steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """What was evaluated before belongs to another step."""
        self._valid_metrics = {}
        self._step_began_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Report the step, and end here if asked to."""
        now = time.monotonic()
        self._step_seconds.append(now - self._step_began_at)
        if now - self._progress_at >= PROGRESS_SECONDS or state.global_step >= state.max_steps:
            self._progress_at = now
            self._record("progress", step=state.global_step, total_steps=state.max_steps)
        if self._must_stop():
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Also called when the training ends within an epoch: see to the last checkpoint."""
        is_done = state.global_step >= state.max_steps
        if control.should_training_stop and not is_done:
            # This is no end of an epoch, and somebody waits for the training to leave.
            control.should_log = control.should_evaluate = False
            control.should_save = self._must_save()
        elif is_done:
            control.should_save = True
        if state.global_step == self._saved_step:
            control.should_save = False

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Remember what need not be saved again."""
        self._saved_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Report metrics under their names here; ChildFailure if one is not a finite number."""
        if "train_runtime" in logs:
            # The summary at the end says nothing new.
            return
        data = {METRICS[name]: value for name, value in logs.items() if name in METRICS}
        for name in ("train_loss", "valid_loss"):
            if not math.isfinite(data.get(name, 0.0)):
                raise non_finite(name.replace("_", " "), data[name], state.global_step)
        if "valid_loss" in data:
            self._valid_metrics = {k: v for k, v in data.items() if k.startswith("valid_")}
        else:
            self._train_metrics = data
        # Not among the metrics: those are the same in every run, and memory is not.
        self._record(
            "metrics",
            step=state.global_step,
            total_steps=state.max_steps,
            memory_bytes=self._held_memory_bytes(),
            data=data,
        )
