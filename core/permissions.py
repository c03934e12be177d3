"""Checkpoints that one project lets another use: to train on, and to take home."""

from collections.abc import Sequence

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from core.db import database_now, project_of
from core.errors import JobNotFound, PermissionNotFound
from core.ids import new_id
from core.jobs import get_job
from core.models import Checkpoint, CheckpointPermission, Job


def grant(
    session: Session, checkpoint: Checkpoint, project_ids: Sequence[str]
) -> list[CheckpointPermission]:
    """Let these projects use a checkpoint; who could already keeps the permission it has."""
    now, found = database_now(session), []
    for project_id in dict.fromkeys(project_ids):
        permission = _find(session, checkpoint.job_id, checkpoint.step, project_id)
        if permission is None:
            permission = CheckpointPermission(
                id=new_id("cp_"),
                job_id=checkpoint.job_id,
                step=checkpoint.step,
                project_id=project_id,
                created_at=now,
            )
            session.add(permission)
            session.flush()
        found.append(permission)
    return found


def list_permissions(
    session: Session,
    checkpoint: Checkpoint,
    *,
    project_id: str | None,
    after: str | None,
    limit: int,
    newest_first: bool,
) -> list[CheckpointPermission]:
    """The permissions of a checkpoint by age, those that follow `after` in that order."""
    table = CheckpointPermission
    key = tuple_(table.created_at, table.id)
    query = _of(checkpoint)
    if project_id is not None:
        query = query.where(table.project_id == project_id)
    if after is not None:
        last = get_permission(session, checkpoint, after, param="after")
        mark = (last.created_at, last.id)
        query = query.where(key < mark if newest_first else key > mark)
    order = (table.created_at, table.id)
    if newest_first:
        query = query.order_by(*(column.desc() for column in order))
    else:
        query = query.order_by(*order)
    return list(session.scalars(query.limit(limit)))


def get_permission(
    session: Session, checkpoint: Checkpoint, permission_id: str, *, param: str = "permission_id"
) -> CheckpointPermission:
    """The permission of this checkpoint with this id, or PermissionNotFound."""
    query = _of(checkpoint).where(CheckpointPermission.id == permission_id)
    permission = session.scalar(query)
    if permission is None:
        raise PermissionNotFound(f"No such permission: {permission_id}", param=param)
    return permission


def get_usable_job(
    session: Session, job_id: str, step: int | None, *, project_id: str | None = None
) -> Job:
    """The job, if it is the project's own or if its checkpoint of `step` was permitted to it.

    JobNotFound otherwise. A job as such, without a step, is never permitted: its checkpoints are.
    """
    project_id = project_id or project_of(session)
    try:
        return get_job(session, job_id, project_id=project_id, param="model")
    except JobNotFound:
        if step is None or _find(session, job_id, step, project_id) is None:
            raise
        return session.get_one(Job, job_id)


def _of(checkpoint: Checkpoint) -> Select[CheckpointPermission]:
    return select(CheckpointPermission).where(
        CheckpointPermission.job_id == checkpoint.job_id,
        CheckpointPermission.step == checkpoint.step,
    )


def _find(session: Session, job_id: str, step: int, project_id: str) -> CheckpointPermission | None:
    query = select(CheckpointPermission).where(
        CheckpointPermission.job_id == job_id,
        CheckpointPermission.step == step,
        CheckpointPermission.project_id == project_id,
    )
    return session.scalar(query)
