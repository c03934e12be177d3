"""The life of a job as data: statuses, legal edges, outcomes of attempts, reasons of failure."""

from enum import Enum, StrEnum


class JobStatus(StrEnum):
    """OpenAI's words, and `paused`. Terminal ones have no edges: trying again is a new job."""

    VALIDATING_FILES = "validating_files"
    """In by submitting with a file that is not checked yet; out when it is."""
    QUEUED = "queued"
    """In by submitting, by resuming, or by an attempt that ended with attempts left."""
    RUNNING = "running"
    """In by a claim only; a worker holds a lease on the job."""
    PAUSED = "paused"
    """In at a step boundary after a pause was asked for; out by resume or cancel."""
    SUCCEEDED = "succeeded"
    """In when the last step is done and its checkpoint is published."""
    FAILED = "failed"
    """In by what the user caused, at once, or by what the machine caused, with no attempts left."""
    CANCELLED = "cancelled"
    """In when a cancel that was asked for is done."""

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change the job any more."""
        return not TRANSITIONS[self]


_S = JobStatus

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    _S.VALIDATING_FILES: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.PAUSED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.QUEUED, _S.PAUSED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    RELEASED = "released"
    """The worker was leaving and gave the job back, at no cost to the job."""
    LOST = "lost"
    """The lease expired: the worker died or was cut off."""


class EventKind(StrEnum):
    """What an event tells. On the wire OpenAI's `type` is `metrics` for metrics, else `message`."""

    STATE = "state"
    MESSAGE = "message"
    METRICS = "metrics"
    LOG = "log"
    CHECKPOINT = "checkpoint"
    SAMPLES = "samples"


class Level(StrEnum):
    """OpenAI's levels of an event."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class FailureReason(Enum):
    """Stable codes of failed attempts: (code, what happened, whether another attempt can help)."""

    INVALID_TRAINING_FILE = ("invalid_training_file", "The data cannot be trained on.", False)
    NO_TRAINED_TOKENS = ("no_trained_tokens", "The data leaves nothing to learn from.", False)
    INVALID_ARGUMENT = ("invalid_argument", "The trainer refused a setting.", False)
    INVALID_TEMPLATE = ("invalid_template", "The template cannot be rendered.", False)
    INVALID_MODEL = ("invalid_model", "The model cannot be loaded.", False)
    MODEL_NOT_FOUND = ("model_not_found", "The model does not exist or is not accessible.", False)
    DATASET_NOT_FOUND = (
        "dataset_not_found",
        "The dataset does not exist or is not accessible.",
        False,
    )
    NON_FINITE_LOSS = ("non_finite_loss", "The loss is no longer a finite number.", False)
    OUT_OF_MEMORY = ("out_of_memory", "The training needed more memory than there is.", False)
    INVALID_VALIDATION_FILE = ("invalid_validation_file", "The data cannot be evaluated on.", False)
    INVALID_CHECKPOINT = ("invalid_checkpoint", "The checkpoint cannot be resumed from.", False)
    DISK_FULL = ("disk_full", "The disk of the worker is full.", True)
    HUB_UNAVAILABLE = ("hub_unavailable", "The model hub did not answer.", True)
    STORAGE_UNAVAILABLE = ("storage_unavailable", "The storage did not answer.", True)
    TIME_LIMIT = ("time_limit", "The job has used up its max_seconds.", False)
    STALLED = ("stalled", "The training stopped making progress.", True)
    CHILD_DIED = ("child_died", "The training process died.", True)
    WORKER_LOST = ("worker_lost", "The worker died or was cut off.", True)
    INTERNAL = ("internal", "The training process failed in a way it should not.", True)

    def __init__(self, code: str, text: str, is_retryable: bool):
        self.code = code
        self.text = text
        self.is_retryable = is_retryable

    @classmethod
    def of(cls, code: str) -> "FailureReason":
        """The member with this code; INTERNAL for a code that nobody declared."""
        return next((reason for reason in cls if reason.code == code), cls.INTERNAL)
