"""What there is to use: models, workers, settings of a job."""

from typing import Any

from fastapi import APIRouter

from app.schemas import Deleted, ModelObject, Page, WorkerObject
from app.services import ReadSession, ServicesDep, WriteSession
from core.arguments import KINDS, describe
from core.catalog import delete_model, get_model, list_models
from core.db import database_now
from core.workers import list_workers

router = APIRouter(tags=["catalog"])


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


@router.get("/v1/fine_tuning/schema")
def get_schema() -> dict[str, Any]:
    """Every argument of `training`, `peft` and `quantization`: type, bounds, who may set it."""
    return {kind: describe(kind) for kind in KINDS}
