"""Requests that are done at most once: by an Idempotency-Key, or as a client's own retry."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.body import OptionalJsonObject
from app.caller import Caller, CallerDatabase
from app.services import CallerDep, DatabaseDep
from core.answers import find_answer, keep_answer, open_ticket, take_turn
from core.db import database_now
from core.errors import InvalidArgument

MAX_KEY_LENGTH = 255
RETRY_COUNT = "x-stainless-retry-count"


class Once:
    """One request, with the database that knows whether it was answered before."""

    def __init__(
        self,
        request: Request,
        database: CallerDatabase,
        caller: Caller,
        body: dict[str, Any],
        idempotency_key: str | None,
    ):
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_LENGTH:
            raise InvalidArgument(
                f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters.",
                param="Idempotency-Key",
            )
        self._database = database
        who = f"{caller.project_id} {caller.key_id}"
        self._scope = f"{who} {request.method} {request.url.path}"
        self._body = body
        self._key = idempotency_key
        self._is_retry = request.headers.get(RETRY_COUNT, "0").lstrip("0") != ""

    def answer(
        self,
        make: Callable[[Session, datetime], BaseModel],
        *,
        before: Callable[[], None] | None = None,
    ) -> Response:
        """What `make` makes in a transaction of its own, or what it made when it was asked first.

        `make` is told the time. `before` is what takes too long for the transaction: it is done
        outside of it, and only where there is no answer yet.
        """
        ticket = open_ticket(
            scope=self._scope, body=self._body, key=self._key, is_retry=self._is_retry
        )
        if before is not None:
            with self._database.read() as session:
                now = database_now(session)
                known = find_answer(session, ticket, now=now)
            if known is not None:
                return _again(known)
            ticket = replace(ticket, began_at=now)
            before()
        with self._database.write() as session:
            now, known = take_turn(session, ticket)
            if known is None:
                made = make(session, now).model_dump_json()
                keep_answer(session, ticket, made)
                return _json(made)
            # Nothing was changed, so there is nothing to note in the audit log.
            session.rollback()
        return _again(known)


async def _once(
    request: Request,
    database: DatabaseDep,
    caller: CallerDep,
    body: OptionalJsonObject,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> Once:
    return Once(request, database, caller, body, idempotency_key)


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _again(known: str) -> Response:
    response = _json(known)
    response.headers["idempotent-replayed"] = "true"
    return response


OnceDep = Annotated[Once, Depends(_once)]
