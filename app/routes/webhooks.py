"""OpenAI's webhook endpoints, and the log of what was told to each."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.body import JsonObject, OptionalJsonObject
from app.once import OnceDep
from app.schemas import Deleted, Page
from app.services import DatabaseDep, ReadSession, ServicesDep, WriteSession
from app.webhooks import (
    DeliveryObject,
    EndpointBody,
    EndpointChanges,
    EndpointObject,
    EndpointWithSecret,
    EventTypeList,
    RotateBody,
    TestBody,
    TestResult,
)
from core.courier import send
from core.db import database_now, project_of
from core.errors import EndpointUnreachable
from core.spec import checked
from core.webhooks import (
    EVENT_TYPES,
    create_endpoint,
    get_endpoint,
    list_deliveries,
    list_endpoints,
    rotate_secret,
    sample,
    update_endpoint,
)

router = APIRouter(prefix="/v1", tags=["webhooks"])


def _body(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": required, "content": content}}


@router.get("/webhook_event_types")
def get_event_types() -> EventTypeList:
    """List the events that endpoints can be told of."""
    return EventTypeList(data=list(EVENT_TYPES))


@router.post(
    "/webhook_endpoints", response_model=EndpointWithSecret, openapi_extra=_body(EndpointBody)
)
def create(services: ServicesDep, body: JsonObject, once: OnceDep) -> Response:
    """Tell a URL of ended jobs; the secret of its signatures is shown here only."""
    sent = checked(EndpointBody, body)
    services.egress.check_destination(sent.url)

    def make(session: Session, now: datetime) -> EndpointWithSecret:
        fields = sent.model_dump()
        endpoint = create_endpoint(session, **fields, now=now, project_id=project_of(session))
        return EndpointWithSecret.of(endpoint)

    return once.answer(make)


@router.get("/webhook_endpoints")
def get_endpoints(
    session: ReadSession,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[EndpointObject]:
    """List the endpoints, the newest first."""
    found = list_endpoints(session, after=after, limit=limit + 1, project_id=project_of(session))
    return Page.of([EndpointObject.of(endpoint) for endpoint in found], limit)


@router.get("/webhook_endpoints/{endpoint_id}")
def get_one_endpoint(session: ReadSession, endpoint_id: str) -> EndpointObject:
    """Retrieve an endpoint."""
    return EndpointObject.of(get_endpoint(session, endpoint_id, project_id=project_of(session)))


@router.post("/webhook_endpoints/{endpoint_id}", openapi_extra=_body(EndpointChanges))
def update(
    session: WriteSession, services: ServicesDep, endpoint_id: str, body: JsonObject
) -> EndpointObject:
    """Change an endpoint; `enabled` brings one back that failed too often."""
    changes = checked(EndpointChanges, body).model_dump(exclude_unset=True)
    if "url" in changes:
        services.egress.check_destination(changes["url"])
    endpoint = get_endpoint(session, endpoint_id, project_id=project_of(session))
    update_endpoint(session, endpoint, changes, now=database_now(session))
    return EndpointObject.of(endpoint)


@router.delete("/webhook_endpoints/{endpoint_id}")
def delete_one_endpoint(session: WriteSession, endpoint_id: str) -> Deleted:
    """Delete an endpoint with its log; what waits is not told any more."""
    session.delete(get_endpoint(session, endpoint_id, project_id=project_of(session)))
    return Deleted(id=endpoint_id, object="webhook_endpoint.deleted")


@router.post(
    "/webhook_endpoints/{endpoint_id}/rotate_secret",
    openapi_extra=_body(RotateBody, required=False),
)
def rotate(session: WriteSession, endpoint_id: str, body: OptionalJsonObject) -> EndpointWithSecret:
    """Sign with a new secret, which is shown here only."""
    keep_old = checked(RotateBody, body).keep_old_secret_active_for_24_hours
    endpoint = get_endpoint(session, endpoint_id, project_id=project_of(session))
    rotate_secret(endpoint, keep_old=keep_old, now=database_now(session))
    return EndpointWithSecret.of(endpoint)


@router.post("/webhook_endpoints/{endpoint_id}/test", openapi_extra=_body(TestBody))
def test(
    services: ServicesDep, database: DatabaseDep, endpoint_id: str, body: JsonObject
) -> TestResult:
    """Send a signed event of a job that does not exist, now and once."""
    event_type = checked(TestBody, body).event_type
    with database.read() as session:
        endpoint = get_endpoint(session, endpoint_id, project_id=project_of(session))
        parcel = sample(endpoint, event_type, now=database_now(session))
    attempt = send(services.egress, parcel)
    if attempt.status_code is None:
        raise EndpointUnreachable(f"The endpoint did not answer: {attempt.error}")
    return TestResult(
        webhook_endpoint_id=endpoint_id, event_type=event_type, status_code=attempt.status_code
    )


@router.get("/webhook_endpoints/{endpoint_id}/deliveries")
def get_deliveries(
    session: ReadSession,
    endpoint_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[DeliveryObject]:
    """List what was told to an endpoint, with every try, the newest first; kept for 30 days."""
    endpoint = get_endpoint(session, endpoint_id, project_id=project_of(session))
    found = list_deliveries(session, endpoint, after=after, limit=limit + 1)
    return Page.of([DeliveryObject.of(delivery) for delivery in found], limit)
