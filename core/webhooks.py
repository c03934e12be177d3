"""Webhooks: who wants to hear of ended jobs, and what is to be told to whom.

A delivery is a row, written in the transaction that ends the job. Whoever sends it first moves its
next time forward: a sender that dies leaves it to the next one, with the same `webhook-id`.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from core.errors import InvalidArgument, InvalidState, WebhookNotFound
from core.ids import new_id
from core.models import WebhookDelivery, WebhookEndpoint

EVENT_TYPES = tuple(f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled"))
MAX_ENDPOINTS = 20
BACKOFF_SECONDS = (5, 30, 120, 600, 1800, 7200, 21_600, 43_200)
"""Pauses between the tries of one delivery; after the last try it has failed."""
MAX_FAILURES = 20
"""Failed tries in a row, whatever they were of, after which an endpoint is disabled."""
LEASE = timedelta(seconds=60)
OLD_SECRET_KEPT = timedelta(hours=24)
LOG_KEPT = timedelta(days=30)
SECRET_PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery to send now."""

    delivery_id: str
    url: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Try:
    """How sending went: a status, or why there is none."""

    status_code: int | None
    error: str | None
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status_code is not None and 200 <= self.status_code < 300


def create_endpoint(
    session: Session,
    *,
    name: str,
    url: str,
    event_types: Sequence[str],
    now: datetime,
    project_id: str,
) -> WebhookEndpoint:
    """Begin to tell a URL of these events; its secret is to be shown once."""
    check_event_types(event_types)
    query = select(func.count()).where(WebhookEndpoint.project_id == project_id)
    if (session.scalar(query) or 0) >= MAX_ENDPOINTS:
        raise InvalidState(f"A project has at most {MAX_ENDPOINTS} webhook endpoints.")
    endpoint = WebhookEndpoint(
        id=new_id("we_"),
        project_id=project_id,
        name=name,
        url=url,
        event_types=list(dict.fromkeys(event_types)),
        secret=_new_secret(),
        created_at=now,
        updated_at=now,
    )
    session.add(endpoint)
    session.flush()
    return endpoint


def check_event_types(event_types: Sequence[str], *, param: str = "event_types") -> None:
    """InvalidArgument for events that never happen here."""
    for event_type in event_types:
        if event_type not in EVENT_TYPES:
            raise InvalidArgument(
                f"There are no events {event_type[:100]!r} here, only {', '.join(EVENT_TYPES)}.",
                param=param,
            )


def get_endpoint(
    session: Session, endpoint_id: str, *, project_id: str, param: str = "webhook_endpoint_id"
) -> WebhookEndpoint:
    """The endpoint with this id, or WebhookNotFound."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.id == endpoint_id, WebhookEndpoint.project_id == project_id
    )
    endpoint = session.scalar(query)
    if endpoint is None:
        raise WebhookNotFound(f"No such webhook endpoint: {endpoint_id}", param=param)
    return endpoint


def list_endpoints(
    session: Session, *, after: str | None, limit: int, project_id: str
) -> list[WebhookEndpoint]:
    """The endpoints of a project, the newest first."""
    key = tuple_(WebhookEndpoint.created_at, WebhookEndpoint.id)
    query = select(WebhookEndpoint).where(WebhookEndpoint.project_id == project_id)
    if after is not None:
        last = get_endpoint(session, after, project_id=project_id, param="after")
        query = query.where(key < (last.created_at, last.id))
    query = query.order_by(WebhookEndpoint.created_at.desc(), WebhookEndpoint.id.desc())
    return list(session.scalars(query.limit(limit)))


def update_endpoint(
    session: Session, endpoint: WebhookEndpoint, changes: dict[str, Any], *, now: datetime
) -> None:
    """Set `name`, `url`, `event_types` or `enabled`; to enable it forgives its failures."""
    check_event_types(changes.get("event_types", ()))
    enabled = changes.pop("enabled", None)
    if enabled is not None:
        endpoint.disabled_at = None if enabled else (endpoint.disabled_at or now)
        endpoint.num_failures = 0 if enabled else endpoint.num_failures
    if enabled is False:
        _give_up(session, endpoint)
    is_changed = enabled is not None
    for field, value in changes.items():
        is_changed |= getattr(endpoint, field) != value
        setattr(endpoint, field, value)
    if is_changed:
        endpoint.updated_at = now
    session.flush()


def rotate_secret(endpoint: WebhookEndpoint, *, keep_old: bool, now: datetime) -> None:
    """Sign with a new secret; for a day with the old one, too, if it is kept."""
    endpoint.old_secret = endpoint.secret if keep_old else None
    endpoint.old_secret_until = now + OLD_SECRET_KEPT if keep_old else None
    endpoint.secret, endpoint.updated_at = _new_secret(), now


def announce(
    session: Session, project_id: str, event_type: str, data: dict[str, Any], *, now: datetime
) -> None:
    """Queue an event for every endpoint that wants it, in the transaction of what happened."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.project_id == project_id, WebhookEndpoint.disabled_at.is_(None)
    )
    event = _event(event_type, data, now)
    for endpoint in session.scalars(query):
        if event_type in endpoint.event_types:
            delivery = WebhookDelivery(
                id=new_id("whd_"),
                endpoint_id=endpoint.id,
                event_id=event["id"],
                event_type=event_type,
                body=orjson.dumps(event).decode(),
                status="pending",
                created_at=now,
                next_try_at=now,
                tries=[],
            )
            session.add(delivery)


def sample(endpoint: WebhookEndpoint, event_type: str, *, now: datetime) -> Parcel:
    """An event that did not happen, for a test of the receiver."""
    check_event_types([event_type], param="event_type")
    event = _event(event_type, {"id": new_id("ftjob-")}, now)
    return _parcel(endpoint, "", event["id"], orjson.dumps(event), now)


def claim_deliveries(session: Session, *, now: datetime, limit: int) -> list[Parcel]:
    """Take what is due, for as long as sending may take; nobody else takes it meanwhile."""
    query = (
        select(WebhookDelivery, WebhookEndpoint)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.status == "pending", WebhookDelivery.next_try_at <= now)
        .order_by(WebhookDelivery.next_try_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=WebhookDelivery)
    )
    parcels = []
    for delivery, endpoint in session.execute(query):
        delivery.next_try_at = now + LEASE
        body = delivery.body.encode()
        parcels.append(_parcel(endpoint, delivery.id, delivery.event_id, body, now))
    return parcels


def record_try(session: Session, delivery_id: str, attempt: Try, *, now: datetime) -> None:
    """Note how sending went, and when it is tried again; an endpoint that fails on is disabled."""
    delivery = session.get(WebhookDelivery, delivery_id, with_for_update=True)
    if delivery is None or delivery.status != "pending":
        return
    entry = {
        "at": int(now.timestamp()),
        "status_code": attempt.status_code,
        "error": attempt.error,
        "seconds": round(attempt.seconds, 3),
    }
    delivery.tries = [*delivery.tries, entry]
    endpoint = session.get_one(WebhookEndpoint, delivery.endpoint_id, with_for_update=True)
    if attempt.is_good:
        delivery.status, delivery.next_try_at = "succeeded", None
        endpoint.num_failures = 0
        return
    endpoint.num_failures += 1
    place = len(delivery.tries) - 1
    if place < len(BACKOFF_SECONDS):
        delivery.next_try_at = now + timedelta(seconds=BACKOFF_SECONDS[place])
    else:
        delivery.status, delivery.next_try_at = "failed", None
    if endpoint.num_failures >= MAX_FAILURES and endpoint.disabled_at is None:
        endpoint.disabled_at = now
        session.flush()
        _give_up(session, endpoint)


def list_deliveries(
    session: Session, endpoint: WebhookEndpoint, *, after: str | None, limit: int
) -> list[WebhookDelivery]:
    """What was told to an endpoint, the newest first."""
    table = WebhookDelivery
    query = select(table).where(table.endpoint_id == endpoint.id)
    if after is not None:
        last = session.scalar(query.where(table.id == after))
        if last is None:
            raise WebhookNotFound(f"No such delivery: {after}", param="after")
        query = query.where(tuple_(table.created_at, table.id) < (last.created_at, last.id))
    query = query.order_by(table.created_at.desc(), table.id.desc())
    return list(session.scalars(query.limit(limit)))


def forget_deliveries(session: Session, *, now: datetime) -> int:
    """Delete old entries of the log; returns how many."""
    found = session.scalars(
        delete(WebhookDelivery)
        .where(WebhookDelivery.status != "pending", WebhookDelivery.created_at < now - LOG_KEPT)
        .returning(WebhookDelivery.id)
    )
    return len(found.all())


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a message, as the Standard Webhooks specification has it."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


def _event(event_type: str, data: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "id": new_id("evt_"),
        "object": "event",
        "created_at": int(now.timestamp()),
        "type": event_type,
        "data": data,
    }


def _parcel(
    endpoint: WebhookEndpoint, delivery_id: str, event_id: str, body: bytes, now: datetime
) -> Parcel:
    old = endpoint.old_secret_until is not None and endpoint.old_secret_until > now
    valid = [endpoint.secret, endpoint.old_secret if old else None]
    timestamp = int(now.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "Tuneyard-Webhooks",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            signature(secret, event_id, timestamp, body) for secret in valid if secret
        ),
    }
    return Parcel(delivery_id, endpoint.url, body, headers)


def _give_up(session: Session, endpoint: WebhookEndpoint) -> None:
    """What waits for a disabled endpoint is not told any more."""
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint.id, WebhookDelivery.status == "pending")
        .values(status="failed", next_try_at=None)
    )


def _new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
