"""Sends what webhooks are to be told."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select

from core.db import Database, database_now
from core.egress import Egress
from core.errors import TuneyardError
from core.models import WebhookDelivery
from core.webhooks import Parcel, Try, claim_deliveries, record_try

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0
READ_BYTES = 4096
AT_ONCE = 4


def deliver_due(database: Database, egress: Egress) -> int:
    """Send some of what is due, and note how it went; returns how much it was."""
    with database.read() as session:
        due = select(WebhookDelivery.id).where(
            WebhookDelivery.status == "pending",
            WebhookDelivery.next_try_at <= database_now(session),
        )
        if session.scalar(due.limit(1)) is None:
            return 0
    with database.write() as session:
        parcels = claim_deliveries(session, now=database_now(session), limit=AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as senders:
        tries = list(senders.map(lambda parcel: send(egress, parcel), parcels))
    for parcel, attempt in zip(parcels, tries, strict=True):
        with database.write() as session:
            record_try(session, parcel.delivery_id, attempt, now=database_now(session))
    return len(parcels)


def send(egress: Egress, parcel: Parcel) -> Try:
    """Post one event; whatever goes wrong is told, not raised."""
    started, status, error = time.monotonic(), None, None
    try:
        reply = egress.post(
            parcel.url, parcel.body, parcel.headers, seconds=SEND_SECONDS, limit=READ_BYTES
        )
        status = reply.status
        if not 200 <= status < 300:
            error = f"answered with status {status}"
    except TuneyardError as refused:
        error = refused.message
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as failed:
        error = f"{type(failed).__name__}: {failed}"[:300]
    if error is not None:
        logger.info("webhook to %s: %s", urlsplit(parcel.url).hostname, error)
    return Try(status, error, time.monotonic() - started)
