"""Requests that must not be done twice: what they were answered, kept beside what they made.

A request is the same when it brings the same Idempotency-Key, or when a client says by itself that
it tries again what it got no answer to. The answer is written in the transaction of what was made:
either both are there or neither.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.db import began_at, clock, database_now, is_postgresql
from core.errors import IdempotencyConflict
from core.models import Answer

KEPT = timedelta(hours=24)
RETRIED_WITHIN = timedelta(minutes=15)
"""Longer than a client waits for an answer and between its attempts together."""
MAX_FORGOTTEN = 1000
"""Answers that are deleted in one transaction."""
_KEEP = (
    update(Answer)
    .where(Answer.id == bindparam("ticket"))
    .values(body=bindparam("answer"))
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request that is done at most once."""

    id: str
    body_hash: str
    is_keyed: bool
    """Whether the client sent a key; else the body is what the request is known by."""
    is_retry: bool
    """Whether the client says that it has sent this before."""
    began_at: datetime | None
    """When this attempt came in, by the clock of the database; null for one that takes its turn
    at once: with its transaction."""


def open_ticket(
    *,
    scope: str,
    body: dict[str, Any],
    key: str | None,
    is_retry: bool,
    began_at: datetime | None = None,
) -> Ticket:
    """The ticket of a request; `scope` says whose it is and what it asks for."""
    body_hash = _digest(orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode())
    return Ticket(
        id=_digest(scope, key if key is not None else body_hash, str(key is not None)),
        body_hash=body_hash,
        is_keyed=key is not None,
        is_retry=is_retry,
        began_at=began_at,
    )


def find_answer(session: Session, ticket: Ticket, *, now: datetime) -> str | None:
    """What the same request was answered before; IdempotencyConflict if its body was another."""
    row = session.scalar(select(Answer).where(Answer.id == ticket.id))
    return _usable(session, row, ticket, now) if row is not None else None


def take_turn(session: Session, ticket: Ticket) -> tuple[datetime, str | None]:
    """Hold the ticket until the transaction ends; it begins with this.

    Gives the time, since it is asked for at the same time, and the answer of who was first: None
    to go on.
    """
    insert = postgresql.insert if is_postgresql(session) else sqlite.insert
    values = {
        "id": ticket.id,
        "body_hash": ticket.body_hash,
        "created_at": clock(session),
        "is_retry": ticket.is_retry,
    }
    # Where another transaction has inserted the same ticket, this waits until it has ended.
    statement = insert(Answer).values(values).on_conflict_do_nothing()
    now = session.scalar(statement.returning(clock(session)))
    if now is not None:
        return now, None
    row = session.scalar(select(Answer).where(Answer.id == ticket.id).with_for_update())
    if row is None:
        # It was old, and has been forgotten since.
        return take_turn(session, ticket)
    now = database_now(session)
    found = _usable(session, row, ticket, now)
    if found is None:
        row.body_hash, row.created_at = ticket.body_hash, now
        row.is_retry, row.body = ticket.is_retry, None
    return now, found


def keep_answer(session: Session, ticket: Ticket, body: str) -> None:
    """Remember what the request is answered, as JSON, in the transaction of `take_turn`."""
    session.execute(_KEEP, {"ticket": ticket.id, "answer": body})


def forget_answers(session: Session, *, now: datetime) -> int:
    """Delete the answers that nobody may get any more; returns how many."""
    old = select(Answer.id).where(Answer.created_at < now - KEPT).limit(MAX_FORGOTTEN)
    if is_postgresql(session):
        # The same request may come again after a day, and other processes clean up too.
        old = old.with_for_update(skip_locked=True)
    found = session.scalars(delete(Answer).where(Answer.id.in_(old)).returning(Answer.id))
    return len(found.all())


def _usable(session: Session, row: Answer, ticket: Ticket, now: datetime) -> str | None:
    age = now - row.created_at
    if ticket.is_keyed:
        is_same = age <= KEPT
        if is_same and row.body_hash != ticket.body_hash:
            raise IdempotencyConflict
    elif ticket.is_retry:
        is_same = age <= RETRIED_WITHIN
    else:
        # The first attempt of a client that has given it up: its retry overtook it.
        is_same = row.is_retry and row.created_at >= (ticket.began_at or began_at(session))
    return row.body if is_same else None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
