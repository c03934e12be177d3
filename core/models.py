"""The tables of what is done here. Times are UTC; `_at` is always a datetime."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.columns import Base
from core.states import EventKind, JobStatus, Level, Outcome


class File(Base):
    """An uploaded, validated, immutable file of examples."""

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(default="default")
    filename: Mapped[str]
    purpose: Mapped[str]
    size_bytes: Mapped[int]
    sha256: Mapped[str]
    storage_key: Mapped[str]
    report: Mapped[dict[str, Any] | None]
    """What validation found: rows, shape, columns. Null for purposes that are not trained on."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    """Deleted after this, or when the job that needs it then has ended. Null keeps it."""

    __table_args__ = (
        Index("ix_files_project", "project_id", "created_at", "id"),
        Index("ix_files_expiry", "expires_at"),
    )


class Upload(Base):
    """A file that comes in parts, until it is completed."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(default="default")
    filename: Mapped[str]
    purpose: Mapped[str]
    mime_type: Mapped[str]
    size_bytes: Mapped[int]
    """What all parts of the file must come to."""
    expires_after_seconds: Mapped[int | None]
    """Of the file that it becomes."""
    status: Mapped[str]
    """pending, completed, cancelled or expired."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    file_id: Mapped[str | None]
    part_ids: Mapped[list[Any] | None]
    """The parts that it was completed from, in order."""

    __table_args__ = (Index("ix_uploads_expiry", "status", "expires_at"),)


class UploadPart(Base):
    """One stored part of an upload."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"))
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_upload_parts_upload", "upload_id"),)


class Job(Base):
    """One user's request to fine-tune one model on one dataset."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(default="default")
    status: Mapped[JobStatus]
    spec: Mapped[dict[str, Any]]
    """The validated request as it was sent; never changed."""
    training: Mapped[dict[str, Any]]
    """Canonical SFTConfig arguments that the trainer is given."""
    model: Mapped[str]
    """The base model as the user named it."""
    base_model: Mapped[str]
    """The same, pinned: a job's name has become that of one of its checkpoints."""
    model_revision: Mapped[str | None]
    """Commit of the Hub model below it all, once a worker has fetched that; null for others."""
    training_file: Mapped[str | None]
    validation_file: Mapped[str | None]
    suffix: Mapped[str | None]
    retry_of: Mapped[str | None]
    """Job whose newest checkpoint this one begins from; its own come first."""
    seed: Mapped[int]
    labels: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    """The user's `metadata`; SQLAlchemy keeps that name for itself."""
    priority: Mapped[int] = mapped_column(default=0)
    """Higher is claimed first."""
    max_attempts: Mapped[int]

    created_at: Mapped[datetime]
    queued_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    not_before_at: Mapped[datetime | None]
    """Not claimed before: the back-off after a failed attempt."""
    cancel_requested_at: Mapped[datetime | None]
    pause_requested_at: Mapped[datetime | None]
    pause_reason: Mapped[str | None] = mapped_column(Text)
    """Why the service paused it; null when its user did. It goes on by itself."""
    save_on_cancel: Mapped[bool] = mapped_column(default=False)

    attempt: Mapped[int] = mapped_column(default=0)
    """Number of the newest attempt: the fencing token, since each claim raises it."""
    num_failed_attempts: Mapped[int] = mapped_column(default=0)
    num_lost_attempts: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]

    event_seq: Mapped[int] = mapped_column(default=0)
    """Number of the newest event; the row's lock makes numbers gapless, in order of commit."""
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int | None]
    phase: Mapped[str | None]
    """What the running attempt does now: fetch, load, data, train, save."""
    trained_tokens: Mapped[int | None]
    fine_tuned_model: Mapped[str | None]
    result_files: Mapped[list[Any] | None]
    """Ids of files with the metrics; null until the job has ended with some."""
    resolved: Mapped[dict[str, Any] | None]
    """The trainer's own arguments and model facts, as it reported them."""
    data_report: Mapped[dict[str, Any] | None]
    plan: Mapped[dict[str, Any] | None]
    """The option that was taken, what "auto" became and why; null where nothing was predicted."""
    measured: Mapped[dict[str, Any] | None]
    """What the newest finished attempt took, under the plan's names."""
    scratch_bytes: Mapped[int | None]
    """What an attempt writes to its worker's disk, as planned or as seen; null where unknown."""
    storage_bytes: Mapped[int | None]
    """What all checkpoints that are kept take, likewise."""
    memory_bytes: Mapped[int | None]
    """What it takes of a worker's memory by its plan, or its own limit where that is less."""
    rollback: Mapped[dict[str, Any] | None]
    """{failed_step, to_step, learning_rate_before, learning_rate}, once it was rolled back."""
    error: Mapped[dict[str, Any] | None]
    """{code, message, param, suggestion} of the failure; null unless failed."""

    __table_args__ = (
        Index("ix_jobs_queue", "status", "priority", "queued_at"),
        Index("ix_jobs_project", "project_id", "created_at", "id"),
        Index("ix_jobs_lease", "status", "lease_expires_at"),
    )


class Attempt(Base):
    """One try of a job by one worker."""

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    lease_token: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[Outcome | None]
    resumed_from_step: Mapped[int] = mapped_column(default=0)
    """Optimizer steps that were already done when this attempt began."""
    error: Mapped[dict[str, Any] | None]
    """{code, message, param, suggestion, evidence} when it failed."""
    peak_memory_bytes: Mapped[int | None]
    num_batches: Mapped[int] = mapped_column(default=0)
    """How many batches of events its worker has written."""


class Event(Base):
    """An append-only, numbered record of what happened to a job."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    created_at: Mapped[datetime]
    level: Mapped[Level]
    kind: Mapped[EventKind]
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any] | None]

    __table_args__ = (Index("ix_events_kind", "job_id", "kind", "seq"),)


class Checkpoint(Base):
    """Resumable state at an optimizer step. A row exists only when its bytes are stored."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]
    attempt: Mapped[int]
    created_at: Mapped[datetime]
    prefix: Mapped[str]
    """Storage key that the manifest's paths are under."""
    manifest: Mapped[list[Any]]
    """[{path, size_bytes, sha256, part}]; part is `weights` to take home or `state` to resume."""
    revision: Mapped[str]
    """Commit of what there is to take home, for clients of the Hub: made of the manifest."""
    metrics: Mapped[dict[str, Any]]
    size_bytes: Mapped[int]
    is_corrupt: Mapped[bool] = mapped_column(default=False)
    """Set when a resume found bytes that do not match the manifest."""
    is_diverged: Mapped[bool] = mapped_column(default=False)
    """Set when its weights led to a loss that is not finite; no attempt goes on from it."""

    __table_args__ = (Index("ix_checkpoints_step", "job_id", "step", unique=True),)


class CheckpointPermission(Base):
    """Another project's right to use a checkpoint."""

    __tablename__ = "checkpoint_permissions"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    step: Mapped[int]
    project_id: Mapped[str]
    """Who may use it; the job tells whose it is."""
    created_at: Mapped[datetime]

    __table_args__ = (
        Index("ix_checkpoint_permissions", "job_id", "step", "project_id", unique=True),
    )


class PlanOutcome(Base):
    """What was predicted for an attempt that finished, and what it took. Outlives the job."""

    __tablename__ = "plan_outcomes"

    job_id: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    worker: Mapped[str]
    family: Mapped[str]
    method: Mapped[str]
    parameters: Mapped[int | None]
    """Null in rows of before 0014: predicted for other rows than were trained."""
    longest_tokens: Mapped[int | None]
    """Of a row, as it was cut."""
    step_tokens: Mapped[int | None]
    """Of one optimizer step, without padding."""
    is_filled: Mapped[bool | None]
    """Whether its rows were so even that the predicted peak must have been reached."""
    raw_memory_bytes: Mapped[int]
    """By the model alone, for the rows that were trained; `predicted` is corrected too."""
    predicted_memory_bytes: Mapped[int]
    measured_memory_bytes: Mapped[int | None]
    raw_seconds_per_step: Mapped[float]
    predicted_seconds_per_step: Mapped[float]
    measured_seconds_per_step: Mapped[float | None]
    predicted_disk_bytes: Mapped[int]
    measured_disk_bytes: Mapped[int]

    __table_args__ = (Index("ix_plan_outcomes_kind", "family", "method", "created_at"),)


class WebhookEndpoint(Base):
    """A URL that wants to hear of what happens in a project."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(default="default")
    name: Mapped[str]
    url: Mapped[str] = mapped_column(String(2048))
    event_types: Mapped[list[Any]]
    secret: Mapped[str]
    """Signs with it: kept as it is, shown once."""
    old_secret: Mapped[str | None]
    old_secret_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    num_failures: Mapped[int] = mapped_column(default=0)
    """Failed tries since the last good one."""
    disabled_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_webhook_endpoints_project", "project_id", "created_at", "id"),)


class WebhookDelivery(Base):
    """One event on its way to one endpoint; afterwards, an entry of the log."""

    __tablename__ = "webhook_deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    """Its `webhook-id`, the same with every try."""
    event_type: Mapped[str]
    body: Mapped[str] = mapped_column(Text)
    status: Mapped[str]
    """pending, succeeded or failed."""
    created_at: Mapped[datetime]
    next_try_at: Mapped[datetime | None]
    tries: Mapped[list[Any]]
    """[{at, status_code, error, seconds}], the first one first."""

    __table_args__ = (
        Index("ix_webhook_deliveries_due", "status", "next_try_at"),
        Index("ix_webhook_deliveries_endpoint", "endpoint_id", "created_at", "id"),
    )


class Answer(Base):
    """What a request that must not be done twice was answered."""

    __tablename__ = "answers"

    id: Mapped[str] = mapped_column(primary_key=True)
    """Hash of who asked for what, and of the key or the body that it is known by."""
    body_hash: Mapped[str]
    created_at: Mapped[datetime]
    is_retry: Mapped[bool]
    """Whether the client said that it had sent the request before."""
    body: Mapped[str | None] = mapped_column(Text)
    """The answer's JSON as it was sent; null only inside of the transaction that makes it."""

    __table_args__ = (Index("ix_answers_age", "created_at"),)


class Worker(Base):
    """A machine that runs attempts, as it last described itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    heartbeat_at: Mapped[datetime]
    slots: Mapped[int]
    facts: Mapped[dict[str, Any]]
    """Devices, memory, versions."""
    drained_at: Mapped[datetime | None]
    """Since when it is to claim nothing. Its own reports and restarts leave this as it is."""
