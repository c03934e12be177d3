"""Turns what went wrong in a child into a stable code and a message in the user's words."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from core.errors import InvalidTemplate
from core.full import is_full
from worker.child.order import Order

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "can't start new thread",
    "bad_alloc",
)
"""What the allocators of CUDA, of the CPU and of C++ say; they raise a plain RuntimeError."""


WHAT_IS_LOADED = {
    "load": "the model",
    "data": "the model and its data",
    "resume": "what the training goes on from",
}
"""By phase: what takes its memory however small a batch is."""


class ChildFailure(Exception):
    """A failure that is understood where it happens."""

    def __init__(self, code: str, message: str, *, param: str | None = None):
        self.code = code
        self.message = message
        self.param = param
        super().__init__(message)


class StoppedBeforeTraining(Exception):
    """There is no step to train: the supervisor wants a stop, or the last step is done."""

    def __init__(self, step: int, total_steps: int):
        self.step = step
        self.total_steps = total_steps
        super().__init__(f"stopped at step {step} of {total_steps}")


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt failed, as the supervisor is told."""

    code: str
    message: str
    param: str | None = None

    @property
    def is_retryable(self) -> bool:
        """Whether the same order may do better at another time."""
        return self.code in {"disk_full", "internal"}


def explain(error: BaseException, order: Order, *, phase: str) -> Failure:
    """What this exception, raised in this phase, means to the user."""
    causes = list(_causes(error))
    for cause in causes:
        failure = _understood(cause, phase)
        if failure is not None:
            return _without_paths(failure, order)
    return _without_paths(_of_phase(causes[-1], phase), order)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from; libraries wrap what happens in their callbacks."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _understood(error: BaseException, phase: str) -> Failure | None:
    if isinstance(error, ChildFailure):
        return Failure(error.code, error.message, error.param)
    if isinstance(error, InvalidTemplate):
        return Failure("invalid_template", error.message, error.param or "template")
    if _is_out_of_memory(error):
        if phase in WHAT_IS_LOADED:
            message = f"There was not enough memory to load {WHAT_IS_LOADED[phase]}."
            return Failure("out_of_memory", message, "model")
        message = (
            "There was not enough memory. Use a smaller per_device_train_batch_size with as many "
            "more gradient_accumulation_steps, a smaller max_length, activation_checkpointing, "
            "or LoRA."
        )
        return Failure("out_of_memory", message, "training.per_device_train_batch_size")
    if isinstance(error, OSError) and is_full(error):
        return Failure("disk_full", "The scratch disk of the worker is full.")
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error).lower() for text in OUT_OF_MEMORY
    )


def _of_phase(error: BaseException, phase: str) -> Failure:
    """The best that can be said of an error that no code expected."""
    said = f"{type(error).__name__}: {str(error).strip() or 'no message'}"
    if phase == "load" and isinstance(error, FileNotFoundError):
        return Failure("model_not_found", f"The model is not there. {said}", "model")
    if phase == "load" and not isinstance(error, SystemExit | KeyboardInterrupt):
        # The order was checked, so what the libraries stumble over stands in the model's files.
        return Failure("invalid_model", f"The model cannot be loaded. {said}", "model")
    if phase == "data" and type(error).__name__ == "PanicException":
        return Failure("invalid_model", f"The model's tokenizer fails. {said}", "model")
    if phase == "data" and isinstance(error, ValueError | TypeError):
        param = "peft" if "Peft" in type(error).__name__ else "training"
        return Failure("invalid_argument", f"The trainer refuses these settings. {said}", param)
    return Failure("internal", said)


def _without_paths(failure: Failure, order: Order) -> Failure:
    """Folders of this machine are nobody's business."""
    message = failure.message.replace(str(order.model_dir), order.public_model)
    for folder in (order.scratch, order.train.path.parent):
        message = message.replace(f"{folder}/", "").replace(str(folder), ".")
    return Failure(failure.code, message, failure.param)
