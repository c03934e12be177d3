"""Every error that this service raises on purpose.

    TuneyardError
    |-- Invalid              the request is wrong and will stay wrong
    |   |-- InvalidArgument    one named field of it
    |   |-- InvalidModel       a model folder that would do harm, or that nothing can load
    |   |-- InsufficientDisk   its checkpoints are more than the disks can hold
    |   |-- InvalidFile        an uploaded file of examples
    |   |-- InvalidTemplate    a template that cannot be rendered
    |   |-- InvalidState       the job is in a state that does not allow this
    |   `-- EndpointUnreachable  a webhook that was to be tested
    |-- Unauthorized         no key, or a wrong one
    |-- Forbidden            a right key that may not do this
    |-- NotFound             no such thing, or not yours
    |   |-- FileNotFound, UploadNotFound, JobNotFound, CheckpointNotFound, ModelNotFound,
    |   |   PermissionNotFound, WebhookNotFound, KeyNotFound, ProjectNotFound, WorkerNotFound
    |   `-- RepositoryNotFound, RevisionNotFound, EntryNotFound
    |-- Conflict             two requests that exclude each other
    |   |-- IdempotencyConflict  a key that was used for something else
    |   `-- IllegalTransition  an edge that the state machine does not have
    |-- LeaseLost            the attempt is no longer ours: stop, write nothing
    |-- TooLarge             more bytes than a setting allows
    |-- RateLimited          more requests in a minute than a setting allows
    |-- Unavailable          the database, the broker or the storage is away
    |   |-- DatabaseFull       its disk has no room
    |   |-- StorageFull        the same of the storage
    |   `-- StorageForbidden   its keys are wrong, or may not do this
    `-- SettingsError        an environment variable with a bad value

A class is a code; its docstring is the default message; `app.problems` maps branches to HTTP.
"""

from typing import Any, ClassVar


class TuneyardError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, *, param: str | None = None, **details: Any):
        self.message = message or (type(self).__doc__ or "").strip()
        self.param = param
        """Path of the offending field in the user's request, like `training.learning_rate`."""
        self.details = details
        super().__init__(self.message)


class Invalid(TuneyardError):
    """The request cannot be accepted."""

    code = "invalid_request"


class InvalidArgument(Invalid):
    """A field of the request has a value that cannot be used."""

    code = "invalid_argument"


class AddressNotAllowed(InvalidArgument):
    """This server does not connect to that address."""

    code = "address_not_allowed"


class InvalidModel(InvalidArgument):
    """The model cannot be trained on."""

    code = "invalid_model"


class UnknownArgument(InvalidArgument):
    """The request has a field that does not exist."""

    code = "unknown_argument"


class ForbiddenArgument(InvalidArgument):
    """The request sets a field that only the operator of this server may set."""

    code = "forbidden_argument"


class InsufficientDisk(InvalidArgument):
    """The checkpoints of this job are more than the disks can hold."""

    code = "insufficient_disk"


class InvalidFile(Invalid):
    """The file cannot be used for training."""

    code = "invalid_file"


class InvalidTemplate(Invalid):
    """The template cannot be rendered."""

    code = "invalid_template"


class InvalidState(Invalid):
    """The job is in a state that does not allow this."""

    code = "invalid_state"


class EndpointUnreachable(Invalid):
    """The webhook endpoint did not answer."""

    code = "endpoint_unreachable"


class Unauthorized(TuneyardError):
    """Send an API key: Authorization: Bearer <key>."""

    code = "invalid_api_key"


class Forbidden(TuneyardError):
    """This key is not allowed to do that."""

    code = "insufficient_scope"


class NotFound(TuneyardError):
    """No such thing."""

    code = "not_found"


class FileNotFound(NotFound):
    """No such file."""

    code = "file_not_found"


class JobNotFound(NotFound):
    """No such fine-tuning job."""

    code = "job_not_found"


class UploadNotFound(NotFound):
    """No such upload."""

    code = "upload_not_found"


class CheckpointNotFound(NotFound):
    """No such checkpoint."""

    code = "checkpoint_not_found"


class PermissionNotFound(NotFound):
    """No such permission."""

    code = "permission_not_found"


class WebhookNotFound(NotFound):
    """No such webhook endpoint."""

    code = "webhook_not_found"


class ModelNotFound(NotFound):
    """No such model."""

    code = "model_not_found"


class KeyNotFound(NotFound):
    """No such key."""

    code = "key_not_found"


class ProjectNotFound(NotFound):
    """No such project."""

    code = "project_not_found"


class WorkerNotFound(NotFound):
    """No such worker."""

    code = "worker_not_found"


class RepositoryNotFound(NotFound):
    """No such repository."""

    code = "repository_not_found"


class RevisionNotFound(NotFound):
    """The repository has no such branch, tag or commit."""

    code = "revision_not_found"


class EntryNotFound(NotFound):
    """This revision has no such file; `details` name the commit."""

    code = "entry_not_found"


class Conflict(TuneyardError):
    """This contradicts what is already there."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """This Idempotency-Key was used for a request with another body; use a new key."""

    code = "idempotency_conflict"


class IllegalTransition(Conflict):
    """The job cannot go from its state to that one."""

    code = "illegal_transition"


class LeaseLost(TuneyardError):
    """The attempt no longer holds its job."""

    code = "lease_lost"


class TooLarge(TuneyardError):
    """The body is larger than this server accepts."""

    code = "too_large"


class RateLimited(TuneyardError):
    """Too many requests by this key."""

    code = "rate_limit_exceeded"


class Unavailable(TuneyardError):
    """A part of the service is away for the moment. Try again."""

    code = "unavailable"


class DatabaseFull(Unavailable):
    """The disk of the database is full. Make room there; nothing of this was written."""

    code = "database_full"


class StorageFull(Unavailable):
    """The storage is full. Make room there; nothing of this was stored."""

    code = "storage_full"


class StorageForbidden(Unavailable):
    """The storage refuses the keys of this server."""

    code = "storage_forbidden"


class SettingsError(TuneyardError):
    """An environment variable has a value that cannot be used."""

    code = "invalid_setting"
