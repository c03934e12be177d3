"""OpenAI's fine-tuning jobs."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from app.body import JsonObject, OptionalJsonObject
from app.once import OnceDep
from app.schemas import Deleted, JobObject, Page, QueuePlace
from app.services import DatabaseDep, ReadSession, Services, ServicesDep, WriteSession
from core.db import database_now
from core.jobs import (
    JobFilter,
    cancel_job,
    delete_job,
    get_job,
    latest_attempts,
    list_attempts,
    list_jobs,
    pause_job,
    resume_job,
    submit_job,
)
from core.models import Job
from core.room import Fleet
from core.spec import JobSpec, RetryBody, parse_spec, retry_changes
from core.states import JobStatus
from core.submission import is_prepared, prepare, resolve_spec, retry_spec
from core.waiting import queue_places

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"])

MAX_SEARCH = 200

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobSpec.model_json_schema()}},
    }
}

_RETRY_BODY = {
    "requestBody": {
        "content": {"application/json": {"schema": RetryBody.model_json_schema()}},
    }
}


@router.post("", response_model=JobObject, openapi_extra=_BODY)
def create_job(
    services: ServicesDep, database: DatabaseDep, body: JsonObject, once: OnceDep
) -> Response:
    """Create a fine-tuning job; everything that can be checked now is checked now.

    The same Idempotency-Key with the same body is answered the same for 24 hours, and makes no
    second job. Nor does a client's own retry.
    """
    spec = parse_spec(body)

    def create(session: Session, now: datetime) -> JobObject:
        return _submit(session, services, spec, now=now)

    def before() -> None:
        prepare(database, spec, services.facts)

    is_ready = is_prepared(spec, services.facts)
    return once.answer(create, before=None if is_ready else before)


@router.get("")
def get_jobs(
    request: Request,
    session: ReadSession,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    status: Annotated[list[JobStatus] | None, Query(max_length=20)] = None,
    name: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    search: Annotated[str, Query(max_length=MAX_SEARCH)] = "",
) -> Page[JobObject]:
    """List the jobs, the newest first; `metadata[key]=value` and `metadata=null` filter.

    So does `status`, which may be repeated, `name`: a suffix, or the beginning of an id, and
    `search`: a part of the id, the suffix or the model.
    """
    only = JobFilter(
        labels=_labels(request),
        is_unlabelled=request.query_params.get("metadata") == "null",
        statuses=status or (),
        name=name,
        search=search,
    )
    jobs = list_jobs(session, after=after, limit=limit + 1, only=only)
    now, latest = database_now(session), latest_attempts(session, jobs)
    places = queue_places(session, jobs, now=now)
    shown = [
        JobObject.of(job, now=now, queue=_place(places, job), latest=latest.get(job.id))
        for job in jobs
    ]
    return Page.of(shown, limit)


@router.get("/{job_id}")
def get_one_job(session: ReadSession, job_id: str) -> JobObject:
    """Retrieve a job with its attempts and its place in the queue."""
    return _shown(session, get_job(session, job_id))


@router.post("/{job_id}/cancel")
def cancel(session: WriteSession, job_id: str, save: bool = False) -> JobObject:
    """Cancel a job: at once when it waits, at the next step boundary when it trains.

    With `save=true` a training job publishes one last checkpoint.
    """
    job = get_job(session, job_id, lock=True)
    cancel_job(session, job, now=database_now(session), save=save)
    return _shown(session, job)


@router.post("/{job_id}/pause")
def pause(session: WriteSession, job_id: str) -> JobObject:
    """Pause a job: it saves at its next step boundary and frees its device."""
    job = get_job(session, job_id, lock=True)
    pause_job(session, job, now=database_now(session))
    return _shown(session, job)


@router.post("/{job_id}/resume")
def resume(session: WriteSession, services: ServicesDep, job_id: str) -> JobObject:
    """Queue a paused job again; it goes on exactly where it stopped."""
    job = get_job(session, job_id, lock=True)
    resume_job(session, job, now=database_now(session), ring=services.doorbell.ring)
    return _shown(session, job)


@router.post("/{job_id}/retry", response_model=JobObject, openapi_extra=_RETRY_BODY)
def retry(services: ServicesDep, job_id: str, body: OptionalJsonObject, once: OnceDep) -> Response:
    """Try a failed or cancelled job again as a new job, from its newest checkpoint.

    `training` in the body changes trainer arguments; the effective batch must stay.
    """
    changes = retry_changes(body)

    def create(session: Session, now: datetime) -> JobObject:
        # Held for as long as it is needed: else the session forgets it, and reads it again.
        first = get_job(session, job_id)
        spec = retry_spec(session, first, changes)
        return _submit(session, services, spec, now=now, retry_of=first.id)

    return once.answer(create)


@router.delete("/{job_id}")
def delete_one_job(session: WriteSession, services: ServicesDep, job_id: str) -> Deleted:
    """Delete a job that has ended, with its events and its checkpoints."""
    job = get_job(session, job_id, lock=True)
    delete_job(session, job, delete_bytes=services.storage.delete_prefix)
    return Deleted(id=job_id, object="fine_tuning.job")


def _submit(
    session: Session,
    services: Services,
    spec: JobSpec,
    *,
    now: datetime,
    retry_of: str | None = None,
) -> JobObject:
    settings, fleet = services.settings, Fleet.alive(session, now=now)
    resolved = resolve_spec(
        session,
        spec,
        model_roots=settings.model_roots,
        max_attempts=settings.max_attempts,
        reader=services.facts,
        fleet=fleet,
    )
    ring = services.doorbell.ring
    job = submit_job(session, spec, resolved, now=now, ring=ring, retry_of=retry_of)
    return _shown(session, job, now=now, fleet=fleet)


def _shown(
    session: Session, job: Job, *, now: datetime | None = None, fleet: Fleet | None = None
) -> JobObject:
    now = now or database_now(session)
    attempts = list_attempts(session, job.id) if job.attempt > 0 else []
    return JobObject.of(
        job,
        now=now,
        queue=_place(queue_places(session, [job], now=now, fleet=fleet), job),
        attempts=attempts,
        latest=attempts[-1] if attempts else None,
    )


def _place(places: dict[str, tuple[int, str]], job: Job) -> QueuePlace | None:
    place = places.get(job.id)
    return QueuePlace(position=place[0], reason=place[1]) if place else None


def _labels(request: Request) -> dict[str, str]:
    return {
        name[len("metadata[") : -1]: value
        for name, value in request.query_params.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
