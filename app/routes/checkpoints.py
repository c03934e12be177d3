"""Checkpoints: OpenAI's list, and taking them home."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from app.download import file_response, tar_response
from app.schemas import CheckpointObject, Page
from app.services import ReadSession, ServicesDep
from core.checkpoints import entries, find_entry, get_checkpoint, list_checkpoints
from core.jobs import get_job

router = APIRouter(prefix="/v1/fine_tuning/jobs/{job_id}/checkpoints", tags=["checkpoints"])

Step = Annotated[int, Path(ge=0, le=2**62)]


@router.get("")
def get_checkpoints(
    session: ReadSession,
    services: ServicesDep,
    job_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
) -> Page[CheckpointObject]:
    """List the checkpoints, the newest first."""
    job = get_job(session, job_id)
    found = list_checkpoints(session, job.id, after=after, limit=limit + 1)
    return Page.of([CheckpointObject.of(item, services.storage) for item in found], limit)


@router.get("/{step}")
def get_one_checkpoint(
    session: ReadSession, services: ServicesDep, job_id: str, step: Step
) -> CheckpointObject:
    """Retrieve the checkpoint of a step."""
    checkpoint = get_checkpoint(session, get_job(session, job_id).id, step)
    return CheckpointObject.of(checkpoint, services.storage)


@router.get("/{step}/files/{path:path}", response_class=Response)
@router.head("/{step}/files/{path:path}", include_in_schema=False)
def get_checkpoint_file(
    request: Request,
    session: ReadSession,
    services: ServicesDep,
    job_id: str,
    step: Step,
    path: str,
) -> Response:
    """Download one file of a checkpoint: Range, ETag (its SHA-256) and HEAD."""
    checkpoint = get_checkpoint(session, get_job(session, job_id).id, step)
    entry = find_entry(checkpoint, path)
    return file_response(
        request,
        services.storage,
        key=f"{checkpoint.prefix}/{entry.path}",
        size=entry.size_bytes,
        tag=entry.sha256,
        filename=entry.path.rpartition("/")[2],
    )


@router.get("/{step}/archive", response_class=Response)
def get_archive(
    session: ReadSession,
    services: ServicesDep,
    job_id: str,
    step: Step,
    part: Literal["weights", "all"] = "weights",
) -> Response:
    """Download a checkpoint as one tar; `part=all` adds what a resume needs."""
    checkpoint = get_checkpoint(session, get_job(session, job_id).id, step)
    return tar_response(
        services.storage,
        prefix=checkpoint.prefix,
        entries=list(entries(checkpoint, "weights" if part == "weights" else None)),
        folder=f"{job_id}-step-{step}",
        mtime=int(checkpoint.created_at.timestamp()),
    )
