"""What there is to use: models, workers, settings of a job."""

from typing import Any

from fastapi import APIRouter

from app.schemas import ModelObject, Page, WorkerObject, unix
from app.services import ReadSession, ServicesDep
from core.arguments import KINDS, describe
from core.base_model import list_models
from core.db import database_now
from core.errors import ModelNotFound
from core.workers import list_workers

router = APIRouter(tags=["catalog"])


@router.get("/v1/models")
def get_models(session: ReadSession, services: ServicesDep) -> Page[ModelObject]:
    """List the models of this server: local folders, and what jobs have trained."""
    found = list_models(session, services.settings.model_roots)
    items = [
        ModelObject(id=name, created=unix(created) or 0, owned_by=owner)
        for name, created, owner in found
    ]
    return Page.of(items, len(items) or 1)


@router.get("/v1/models/{model:path}")
def get_one_model(session: ReadSession, services: ServicesDep, model: str) -> ModelObject:
    """Retrieve a model of this server."""
    for name, created, owner in list_models(session, services.settings.model_roots):
        if name == model:
            return ModelObject(id=name, created=unix(created) or 0, owned_by=owner)
    raise ModelNotFound(f"No such model: {model[:200]}", param="model")


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
