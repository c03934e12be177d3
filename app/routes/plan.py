"""What a job would take, before it is created."""

from typing import Any

from fastapi import APIRouter

from app.body import JsonObject
from app.services import DatabaseDep, ReadSession, ServicesDep
from core.plan.experience import accuracy
from core.spec import JobSpec, parse_spec
from core.submission import check_templates, plan_spec

router = APIRouter(prefix="/v1/fine_tuning/plan", tags=["fine-tuning"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": JobSpec.model_json_schema()}},
    }
}


@router.post("", openapi_extra=_BODY)
def make_plan(
    session: ReadSession, services: ServicesDep, database: DatabaseDep, body: JsonObject
) -> dict[str, Any]:
    """Plan a job without creating it: memory by term, steps, time, disk, and each worker's word."""
    spec = parse_spec(body)
    # Before the first query: a transaction is not held open meanwhile.
    check_templates(database, spec)
    services.facts.prefetch(spec.model)
    return plan_spec(
        session, spec, model_roots=services.settings.model_roots, reader=services.facts
    )


@router.get("/accuracy")
def get_accuracy(session: ReadSession) -> dict[str, Any]:
    """How good the plans have been: predicted beside measured, for attempts that finished."""
    return accuracy(session)
