"""What there is to use: models, workers, settings of a job."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.caller import check_owner
from app.schemas import Deleted, ModelObject, Page, WorkerObject
from app.services import CallerDep, ReadSession, ServicesDep, WriteSession
from core.arguments import KINDS, describe
from core.catalog import delete_model, get_model, list_models
from core.db import database_now
from core.workers import drain_worker, get_worker, list_workers, undrain_worker

router = APIRouter(tags=["catalog"])

WorkerId = Annotated[str, Path(max_length=255)]


@router.get("/v1/models")
def get_models(session: ReadSession, services: ServicesDep) -> Page[ModelObject]:
    """List the models of this server: local folders, and what jobs have trained."""
    found = list_models(session, services.settings.model_roots)
    items = [ModelObject.of(model) for model in found]
    return Page.of(items, len(items) or 1)


@router.get("/v1/models/{model:path}")
def get_one_model(session: ReadSession, services: ServicesDep, model: str) -> ModelObject:
    """Retrieve a model of this server, or a checkpoint as `jobs/<job id>.step-N`."""
    return ModelObject.of(get_model(session, model, services.settings.model_roots))


@router.delete("/v1/models/{model:path}")
def delete_one_model(session: WriteSession, services: ServicesDep, model: str) -> Deleted:
    """Delete what a job has trained: all of its checkpoints, or one; the job itself stays."""
    delete_model(
        session,
        model,
        services.settings.model_roots,
        now=database_now(session),
        delete_bytes=services.storage.delete_prefix,
    )
    return Deleted(id=model, object="model")


@router.get("/v1/workers")
def get_workers(session: ReadSession) -> Page[WorkerObject]:
    """List the workers that were seen, the latest first."""
    now = database_now(session)
    items = [WorkerObject.of(worker, now=now) for worker in list_workers(session)]
    return Page.of(items, len(items) or 1)


@router.get("/v1/workers/{worker_id}")
def get_one_worker(session: ReadSession, worker_id: WorkerId) -> WorkerObject:
    """Retrieve a worker."""
    return WorkerObject.of(get_worker(session, worker_id), now=database_now(session))


@router.post("/v1/workers/{worker_id}/drain")
def drain(session: WriteSession, caller: CallerDep, worker_id: WorkerId) -> WorkerObject:
    """Let a worker claim nothing more, also after it was restarted; what it runs goes on."""
    check_owner(caller)
    now = database_now(session)
    return WorkerObject.of(drain_worker(session, worker_id, now=now), now=now)


@router.post("/v1/workers/{worker_id}/undrain")
def undrain(
    session: WriteSession, services: ServicesDep, caller: CallerDep, worker_id: WorkerId
) -> WorkerObject:
    """Let a drained worker claim again."""
    check_owner(caller)
    worker = undrain_worker(session, worker_id, ring=services.doorbell.ring)
    return WorkerObject.of(worker, now=database_now(session))


@router.get("/v1/fine_tuning/schema")
def get_schema() -> dict[str, Any]:
    """Every argument of `training`, `peft` and `quantization`: type, bounds, who may set it."""
    return {kind: describe(kind) for kind in KINDS}
