"""How webhook endpoints and what was told to them look to clients."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import unix
from core.models import WebhookDelivery, WebhookEndpoint

Name = Annotated[str, Field(min_length=1, max_length=255)]
EventTypes = Annotated[list[str], Field(min_length=1, max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class EndpointBody(_Strict):
    """Who is to be told of what."""

    name: Name
    url: str
    event_types: EventTypes


class EndpointChanges(_Strict):
    """What is to be different; `enabled` is ours."""

    name: Name = ""
    url: str = ""
    event_types: EventTypes = []
    enabled: bool = True


class RotateBody(_Strict):
    """Whether the old secret signs for another day."""

    keep_old_secret_active_for_24_hours: bool = False


class TestBody(_Strict):
    """Which event to make up."""

    event_type: str


class EndpointObject(BaseModel):
    """OpenAI's webhook endpoint, and whether it has been disabled."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    enabled: bool
    disabled_at: int | None
    num_failures: int
    """Failed tries since the last good one."""

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "EndpointObject":
        """The endpoint as clients see it."""
        return cls(**_fields(endpoint))


class EndpointWithSecret(EndpointObject):
    """The same, the one time that the secret is shown."""

    signing_secret: str

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "EndpointWithSecret":
        """The endpoint as whoever made it sees it."""
        return cls(**_fields(endpoint), signing_secret=endpoint.secret)


class EventTypeList(BaseModel):
    """OpenAI's list of events that there are."""

    object: Literal["list"] = "list"
    data: list[str]


class TestResult(BaseModel):
    """OpenAI's answer to a test; without an answer of the endpoint there is none."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class DeliveryObject(BaseModel):
    """One event that was, or is to be, told to an endpoint."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    created_at: int
    event_id: str
    """The `webhook-id` of every try."""
    event_type: str
    status: str
    next_try_at: int | None
    tries: list[dict[str, Any]]

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> "DeliveryObject":
        """The delivery as clients see it."""
        return cls(
            id=delivery.id,
            created_at=int(delivery.created_at.timestamp()),
            event_id=delivery.event_id,
            event_type=delivery.event_type,
            status=delivery.status,
            next_try_at=unix(delivery.next_try_at),
            tries=delivery.tries,
        )


def _fields(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "created_at": int(endpoint.created_at.timestamp()),
        "updated_at": int(endpoint.updated_at.timestamp()),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "signing_secret_hint": f"whsec_...{endpoint.secret[-5:-1]}",
        "enabled": endpoint.disabled_at is None,
        "disabled_at": unix(endpoint.disabled_at),
        "num_failures": endpoint.num_failures,
    }
