"""The models of this server: folders, what jobs have trained, and their checkpoints."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.base_model import (
    ModelName,
    find_model_checkpoint,
    local_folder,
    local_models,
    parse_model,
)
from core.db import after_commit, project_of
from core.errors import Forbidden, InvalidArgument, InvalidState, JobNotFound, ModelNotFound
from core.events import NewEvent
from core.jobs import add_events, check_unused, get_job
from core.models import Checkpoint, CheckpointPermission, Job
from core.states import EventKind


@dataclass(frozen=True, slots=True)
class Model:
    """What `model` of a job may be."""

    name: str
    created_at: datetime | None
    owner: str


def list_models(
    session: Session, model_roots: Sequence[Path], *, project_id: str | None = None
) -> Iterator[Model]:
    """What there is to train on: folders, and jobs that succeeded, the newest first."""
    project_id = project_id or project_of(session)
    for name in sorted(set(local_models(model_roots))):
        yield Model(name, None, "local")
    query = (
        select(Job)
        .where(Job.project_id == project_id, Job.fine_tuned_model.is_not(None))
        .order_by(Job.finished_at.desc())
    )
    for job in session.scalars(query):
        assert job.fine_tuned_model is not None
        yield Model(job.fine_tuned_model, job.finished_at, project_id)


def get_model(
    session: Session, name: str, model_roots: Sequence[Path], *, project_id: str | None = None
) -> Model:
    """A folder, a job, or one of its checkpoints as `jobs/<job id>.step-N`; else ModelNotFound."""
    project_id = project_id or project_of(session)
    model = _parsed(name)
    if model.kind == "local":
        local_folder(name, model_roots)
        return Model(name, None, "local")
    if model.kind == "hub":
        raise _not_here(name)
    checkpoint = find_model_checkpoint(session, model, project_id=project_id)
    owner = session.get_one(Job, checkpoint.job_id).project_id
    return Model(name, checkpoint.created_at, owner)


def own_checkpoint(session: Session, name: str, *, project_id: str | None = None) -> Checkpoint:
    """The checkpoint of the project's own that a model name means, or ModelNotFound."""
    project_id = project_id or project_of(session)
    model = _parsed(name)
    if model.kind != "job":
        raise _not_here(name)
    checkpoint = find_model_checkpoint(session, model, project_id=project_id)
    if session.get_one(Job, checkpoint.job_id).project_id != project_id:
        raise _not_here(name)
    return checkpoint


def delete_model(
    session: Session,
    name: str,
    model_roots: Sequence[Path],
    *,
    now: datetime,
    delete_bytes: Callable[[str], None],
    project_id: str | None = None,
) -> None:
    """Delete all checkpoints of a job that has ended, or one; what is told of the job stays.

    InvalidState while the job runs, or while another one is to train on what it learned.
    """
    project_id = project_id or project_of(session)
    model = _parsed(name)
    if model.kind == "local":
        local_folder(name, model_roots)
        raise Forbidden(f"{name} belongs to the operator of this server.", param="model")
    if model.job_id is None:
        raise _not_here(name)
    try:
        job = get_job(session, model.job_id, project_id=project_id, lock=True)
    except JobNotFound as error:
        raise _not_here(name) from error
    if not job.status.is_terminal:
        raise InvalidState(f"Job {job.id} is {job.status}; cancel it first.", param="model")
    check_unused(session, job)
    prefixes = _forget(session, job, model)
    if not prefixes:
        raise _not_here(name)
    event = NewEvent(kind=EventKind.MESSAGE, message=f"Deleted {name}")
    remaining = session.scalar(select(Checkpoint.id).where(Checkpoint.job_id == job.id).limit(1))
    fine_tuned_model = job.fine_tuned_model if remaining is not None else None
    add_events(session, job, [event], now=now, fine_tuned_model=fine_tuned_model)
    for prefix in prefixes:
        after_commit(session, partial(delete_bytes, prefix))


def _forget(session: Session, job: Job, model: ModelName) -> list[str]:
    """Delete the rows of a model's checkpoints; where their bytes are."""
    query = delete(Checkpoint).where(Checkpoint.job_id == job.id)
    permitted = delete(CheckpointPermission).where(CheckpointPermission.job_id == job.id)
    if model.step is not None:
        query = query.where(Checkpoint.step == model.step)
        permitted = permitted.where(CheckpointPermission.step == model.step)
    session.execute(permitted)
    return list(session.scalars(query.returning(Checkpoint.prefix)))


def _parsed(name: str) -> ModelName:
    try:
        return parse_model(name)
    except InvalidArgument as error:
        raise _not_here(name) from error


def _not_here(name: str) -> ModelNotFound:
    return ModelNotFound(f"No such model: {name[:200]}", param="model")
