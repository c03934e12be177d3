"""The objects that clients get: OpenAI's, with our fields beside them. Times are unix seconds."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel

from core.catalog import Model
from core.checkpoints import entries
from core.dataset import FileReport
from core.ids import event_id
from core.models import Attempt, Checkpoint, CheckpointPermission, Event, File, Job, Worker
from core.plan.trained import without_basis
from core.states import EventKind
from core.storage import Storage
from core.submission import BASE_LEARNING_RATE, BASE_LORA_LEARNING_RATE

ORGANIZATION = "org-tuneyard"

Item = TypeVar("Item", bound=BaseModel)


def unix(time: datetime | None) -> int | None:
    """Unix seconds of a time that may not be known."""
    return int(time.timestamp()) if time is not None else None


class Page(BaseModel, Generic[Item]):
    """One page of a list; the next one begins after `last_id`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None

    @classmethod
    def of(cls, items: list[Item], limit: int) -> "Page[Item]":
        """A page from up to `limit + 1` items, of which the last only shows that there are more."""
        shown = items[:limit]
        ids = [str(item.model_dump()["id"]) for item in (shown[:1] + shown[-1:])]
        return cls(
            data=shown,
            has_more=len(items) > limit,
            first_id=ids[0] if ids else None,
            last_id=ids[-1] if ids else None,
        )


class FileObject(BaseModel):
    """OpenAI's file, with what validation found."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None = None
    expires_at: int | None = None
    sha256: str
    report: dict[str, Any] | None

    @classmethod
    def of(cls, file: File) -> "FileObject":
        """The file as clients see it; it was validated before it was stored."""
        return cls(
            id=file.id,
            bytes=file.size_bytes,
            created_at=int(file.created_at.timestamp()),
            filename=file.filename,
            purpose=file.purpose,
            status="processed",
            expires_at=unix(file.expires_at),
            sha256=file.sha256,
            report=FileReport.from_dict(file.report).to_dict() if file.report else None,
        )


class Deleted(BaseModel):
    """The answer to a delete."""

    id: str
    object: str
    deleted: Literal[True] = True


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None
    suggestion: str | None = None


class Progress(BaseModel):
    """How far a job is. `fraction` is null until the number of steps is known."""

    step: int
    total_steps: int | None
    fraction: float | None
    phase: str | None


class QueuePlace(BaseModel):
    """Where a queued job stands: `position` counts the jobs that go before it."""

    position: int
    reason: str


class AttemptObject(BaseModel):
    """One try of a job by one worker."""

    number: int
    worker: str
    started_at: int
    finished_at: int | None
    outcome: str | None
    resumed_from_step: int
    peak_memory_bytes: int | None
    error: dict[str, Any] | None

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptObject":
        """The attempt as clients see it."""
        return cls(
            number=attempt.number,
            worker=attempt.worker,
            started_at=int(attempt.started_at.timestamp()),
            finished_at=unix(attempt.finished_at),
            outcome=attempt.outcome,
            resumed_from_step=attempt.resumed_from_step,
            peak_memory_bytes=attempt.peak_memory_bytes,
            error=attempt.error,
        )


class JobObject(BaseModel):
    """OpenAI's fine-tuning job, with our fields beside theirs."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = ORGANIZATION
    status: str
    training_file: str | None
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    error: JobError | None
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    seed: int
    integrations: list[Any] = []
    metadata: dict[str, Any] | None
    user_provided_suffix: str | None
    usage_metrics: None = None
    shared_with_openai: Literal[False] = False
    retry_of: str | None
    model_revision: str | None
    """Commit of the Hub model that is trained; null until a worker has it, and for others."""

    started_at: int | None
    training: dict[str, Any]
    """The SFTConfig arguments that the trainer is given."""
    peft: dict[str, Any] | None
    quantization: dict[str, Any] | None
    dataset: dict[str, Any] | None
    template: str | None
    shape: str | None
    chat_template: str | None
    max_masked_fraction: float | None
    resources: dict[str, Any] | None
    priority: int
    max_attempts: int
    max_seconds: float | None
    """Longest time of one attempt."""
    sample_prompts: list[str]
    on_non_finite: str
    rollback: dict[str, Any] | None
    """Where the job went back to, and with what learning rate, after a loss that is not finite."""
    progress: Progress
    queue: QueuePlace | None
    attempts: list[AttemptObject] | None
    """Null in lists."""
    latest_attempt: AttemptObject | None
    """The newest of them, in lists too."""
    resolved: dict[str, Any] | None
    """What the trainer really used, and facts of the model, once it is loaded."""
    data_report: dict[str, Any] | None
    plan: dict[str, Any] | None
    """What was predicted before the job ran, with the choice made for "auto" and its reasons."""
    measured: dict[str, Any] | None
    """What the finished attempt took, under the same names."""
    cancel_requested_at: int | None
    pause_requested_at: int | None
    pause_reason: str | None
    """Why the service itself paused the job; it resumes it when that is over."""

    @classmethod
    def of(
        cls,
        job: Job,
        *,
        now: datetime,
        queue: QueuePlace | None = None,
        attempts: list[Attempt] | None = None,
        latest: Attempt | None = None,
    ) -> "JobObject":
        """The job as clients see it."""
        spec, hyperparameters = job.spec, _hyperparameters(job)
        return cls(
            id=job.id,
            created_at=int(job.created_at.timestamp()),
            started_at=unix(job.started_at),
            finished_at=unix(job.finished_at),
            estimated_finish=_estimated_finish(job, now),
            model=job.model,
            fine_tuned_model=job.fine_tuned_model,
            result_files=job.result_files or [],
            status=job.status,
            training_file=job.training_file,
            validation_file=job.validation_file,
            trained_tokens=job.trained_tokens,
            error=JobError(**job.error) if job.error else None,
            hyperparameters=hyperparameters,
            method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            seed=job.seed,
            metadata=job.labels,
            user_provided_suffix=job.suffix,
            retry_of=job.retry_of,
            model_revision=job.model_revision,
            training=job.training,
            peft=spec.get("peft"),
            quantization=spec.get("quantization"),
            dataset=spec.get("dataset"),
            template=spec.get("template"),
            shape=spec.get("shape"),
            chat_template=spec.get("chat_template"),
            max_masked_fraction=spec.get("max_masked_fraction"),
            resources=spec.get("resources"),
            priority=job.priority,
            max_attempts=job.max_attempts,
            max_seconds=spec.get("max_seconds"),
            sample_prompts=job.spec.get("sample_prompts", []),
            on_non_finite=spec.get("on_non_finite", "fail"),
            rollback=job.rollback,
            progress=_progress(job),
            queue=queue,
            attempts=[AttemptObject.of(attempt) for attempt in attempts]
            if attempts is not None
            else None,
            latest_attempt=AttemptObject.of(latest) if latest is not None else None,
            resolved=job.resolved,
            data_report=job.data_report,
            plan=without_basis(job.plan),
            measured=job.measured,
            cancel_requested_at=unix(job.cancel_requested_at),
            pause_requested_at=unix(job.pause_requested_at),
            pause_reason=job.pause_reason,
        )


class EventObject(BaseModel):
    """OpenAI's event. `data.kind` says what a message is about: state, message, log, checkpoint."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: str
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None

    @classmethod
    def of(cls, event: Event) -> "EventObject":
        """The event as clients see it."""
        is_metrics = event.kind is EventKind.METRICS
        return cls(
            id=event_id(event.job_id, event.seq),
            created_at=int(event.created_at.timestamp()),
            level=event.level,
            message=event.message,
            type="metrics" if is_metrics else "message",
            data=event.data if is_metrics else {"kind": event.kind, **(event.data or {})},
        )


class CheckpointFile(BaseModel):
    """One file of a checkpoint; `part` is `weights` to take home or `state` to resume from."""

    path: str
    size_bytes: int
    sha256: str
    part: str


class CheckpointObject(BaseModel):
    """OpenAI's checkpoint, with where it is and what it is made of."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, Any]
    location: str
    size_bytes: int
    is_corrupt: bool
    files: list[CheckpointFile]

    @classmethod
    def of(cls, checkpoint: Checkpoint, storage: Storage) -> "CheckpointObject":
        """The checkpoint as clients see it."""
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at.timestamp()),
            fine_tuned_model_checkpoint=f"jobs/{checkpoint.job_id}.step-{checkpoint.step}",
            fine_tuning_job_id=checkpoint.job_id,
            step_number=checkpoint.step,
            metrics={"step": checkpoint.step, **checkpoint.metrics},
            location=storage.location(checkpoint.prefix),
            size_bytes=checkpoint.size_bytes,
            is_corrupt=checkpoint.is_corrupt,
            files=[
                CheckpointFile(
                    path=entry.path,
                    size_bytes=entry.size_bytes,
                    sha256=entry.sha256,
                    part=entry.part,
                )
                for entry in entries(checkpoint)
            ],
        )


class ModelObject(BaseModel):
    """OpenAI's model: what `model` of a job may be."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str

    @classmethod
    def of(cls, model: Model) -> "ModelObject":
        """The model as clients see it; folders have no age."""
        return cls(id=model.name, created=unix(model.created_at) or 0, owned_by=model.owner)


class PermissionObject(BaseModel):
    """OpenAI's permission: a project that may use a checkpoint."""

    id: str
    object: Literal["checkpoint.permission"] = "checkpoint.permission"
    created_at: int
    project_id: str

    @classmethod
    def of(cls, permission: CheckpointPermission) -> "PermissionObject":
        """The permission as clients see it."""
        created_at = int(permission.created_at.timestamp())
        return cls(id=permission.id, created_at=created_at, project_id=permission.project_id)


class WorkerObject(BaseModel):
    """A machine that trains."""

    id: str
    object: Literal["worker"] = "worker"
    heartbeat_at: int
    heartbeat_age_seconds: float
    drained_at: int | None
    """Since when it claims nothing more, because somebody asked for that."""
    slots: int
    facts: dict[str, Any]

    @classmethod
    def of(cls, worker: Worker, *, now: datetime) -> "WorkerObject":
        """The worker as clients see it."""
        return cls(
            id=worker.name,
            heartbeat_at=int(worker.heartbeat_at.timestamp()),
            heartbeat_age_seconds=round((now - worker.heartbeat_at).total_seconds(), 3),
            drained_at=unix(worker.drained_at),
            slots=worker.slots,
            facts=worker.facts,
        )


def _hyperparameters(job: Job) -> dict[str, Any]:
    """OpenAI's three, as numbers where they were decided, else "auto"."""
    training = job.training
    sent = (job.spec.get("method") or {}).get("supervised", {}).get("hyperparameters")
    sent = sent or job.spec.get("hyperparameters") or {}
    factor = sent.get("learning_rate_multiplier") or "auto"
    if factor == "auto" and "learning_rate" in training:
        base = BASE_LEARNING_RATE if job.spec.get("peft") is None else BASE_LORA_LEARNING_RATE
        factor = round(training["learning_rate"] / base, 9)
    return {
        "n_epochs": training.get("num_train_epochs", "auto"),
        "batch_size": training.get("per_device_train_batch_size", "auto"),
        "learning_rate_multiplier": factor,
    }


def _progress(job: Job) -> Progress:
    fraction = job.step / job.total_steps if job.total_steps else None
    return Progress(step=job.step, total_steps=job.total_steps, fraction=fraction, phase=job.phase)


def _estimated_finish(job: Job, now: datetime) -> int | None:
    """By the pace so far; null while there is none."""
    if job.status != "running" or not job.step or not job.total_steps or job.started_at is None:
        return None
    pace = (now - job.started_at) / job.step
    return unix(now + pace * (job.total_steps - job.step))
