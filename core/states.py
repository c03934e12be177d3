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
    """Stable codes of failed attempts.

    (code, what happened, whether another attempt can help, what the user can do about it)
    """

    INVALID_TRAINING_FILE = (
        "invalid_training_file",
        "The data cannot be trained on.",
        False,
        "Correct the rows that the message names, upload the file again, and submit a new job.",
    )
    NO_TRAINED_TOKENS = (
        "no_trained_tokens",
        "The data leaves nothing to learn from.",
        False,
        "Raise training.max_length, or look at completion_only_loss and assistant_only_loss.",
    )
    INVALID_ARGUMENT = (
        "invalid_argument",
        "The trainer refused a setting.",
        False,
        "Change the setting that the message names, and submit a new job.",
    )
    INVALID_TEMPLATE = (
        "invalid_template",
        "The template cannot be rendered.",
        False,
        "Correct the template for the row that the message names.",
    )
    INVALID_MODEL = (
        "invalid_model",
        "The model cannot be loaded.",
        False,
        "Choose a model with safetensors weights of an architecture that is part of transformers.",
    )
    MODEL_NOT_FOUND = (
        "model_not_found",
        "The model does not exist or is not accessible.",
        False,
        "Look at the model's name; a gated one needs HF_TOKEN on the worker.",
    )
    DATASET_NOT_FOUND = (
        "dataset_not_found",
        "The dataset does not exist or is not accessible.",
        False,
        "Look at dataset.path, name and split; a gated one needs HF_TOKEN on the worker.",
    )
    NON_FINITE_LOSS = (
        "non_finite_loss",
        "The loss is no longer a finite number.",
        False,
        "Retry with a smaller training.learning_rate, or set on_non_finite to rollback; "
        "bf16 in place of fp16 helps too.",
    )
    OUT_OF_MEMORY = (
        "out_of_memory",
        "The training needed more memory than there is.",
        False,
        "Use LoRA, a quantized base or a smaller training.max_length; POST /v1/fine_tuning/plan "
        "says what fits.",
    )
    INVALID_VALIDATION_FILE = (
        "invalid_validation_file",
        "The data cannot be evaluated on.",
        False,
        "Correct the rows that the message names, upload the file again, and submit a new job.",
    )
    INVALID_CHECKPOINT = (
        "invalid_checkpoint",
        "The checkpoint cannot be resumed from.",
        False,
        "Keep the effective batch of the first attempt, or submit a new job.",
    )
    DISK_FULL = (
        "disk_full",
        "The disk of the worker is full.",
        True,
        "Make room on the disk of TUNEYARD_SCRATCH; the job goes on by itself.",
    )
    HUB_UNAVAILABLE = (
        "hub_unavailable",
        "The model hub did not answer.",
        True,
        "Look at HF_ENDPOINT and the worker's network, then retry the job.",
    )
    STORAGE_UNAVAILABLE = (
        "storage_unavailable",
        "The storage did not answer.",
        True,
        "Look at STORAGE_URL and the worker's network, then retry the job.",
    )
    STORAGE_FORBIDDEN = (
        "storage_forbidden",
        "The storage refuses the keys of this server.",
        False,
        "Correct S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and the bucket's policy, restart the "
        "worker, and retry the job.",
    )
    STORAGE_FULL = (
        "storage_full",
        "The storage is full.",
        True,
        "Make room in the storage, or keep fewer checkpoints (training.save_total_limit); the job "
        "goes on by itself.",
    )
    TIME_LIMIT = (
        "time_limit",
        "The job has used up its max_seconds.",
        False,
        "Retry the job: it goes on from its last checkpoint with as many seconds again.",
    )
    STALLED = (
        "stalled",
        "The training stopped making progress.",
        True,
        "The end of the log shows where it hung; if it was only slow, raise STALL_SECONDS.",
    )
    CHILD_DIED = (
        "child_died",
        "The training process died.",
        True,
        "Look at the exit status and the last lines of the log; then retry the job.",
    )
    WORKER_LOST = (
        "worker_lost",
        "The worker died or was cut off.",
        True,
        "Look at the worker's own log; the job goes on from its last checkpoint when retried.",
    )
    INTERNAL = (
        "internal",
        "The training process failed in a way it should not.",
        True,
        "The last lines of the log have the traceback; please report it.",
    )

    def __init__(self, code: str, text: str, is_retryable: bool, suggestion: str):
        self.code = code
        self.text = text
        self.is_retryable = is_retryable
        self.suggestion = suggestion

    @classmethod
    def of(cls, code: str) -> "FailureReason":
        """The member with this code; INTERNAL for a code that nobody declared."""
        return next((reason for reason in cls if reason.code == code), cls.INTERNAL)
