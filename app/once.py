"""Requests that are done at most once: by an Idempotency-Key, or as a client's own retry."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.body import OptionalJsonObject
from app.services import CallerDep, DatabaseDep
from core.answers import find_answer, keep_answer, open_ticket, take_turn
from core.db import database_now
from core.errors import InvalidArgument

MAX_KEY_LENGTH = 255
RETRY_COUNT = "x-stainless-retry-count"

Made = TypeVar("Made", bound=BaseModel)


class Once:
    """One request, with the database that knows whether it was answered before."""

    def __init__(
        self,
        request: Request,
        response: Response,
        database: DatabaseDep,
        caller: CallerDep,
        body: OptionalJsonObject,
        idempotency_key: Annotated[str | None, Header()] = None,
    ):
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY_LENGTH:
            raise InvalidArgument(
                f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters.",
                param="Idempotency-Key",
            )
        self._database = database
        self._response = response
        who = f"{caller.project_id} {caller.key_id}"
        self._scope = f"{who} {request.method} {request.url.path}"
        self._body = body
        self._key = idempotency_key
        self._is_retry = request.headers.get(RETRY_COUNT, "0").lstrip("0") != ""

    def answer(
        self,
        model: type[Made],
        make: Callable[[Session], Made],
        *,
        before: Callable[[], None] | None = None,
    ) -> Made:
        """What `make` makes in a transaction of its own, or what it made when it was asked first.

        `before` is done outside of the transaction, and only where there is no answer yet.
        """
        with self._database.read() as session:
            ticket = open_ticket(
                session,
                scope=self._scope,
                body=self._body,
                key=self._key,
                is_retry=self._is_retry,
            )
            known = find_answer(session, ticket, now=ticket.began_at)
        if known is not None:
            return self._again(model, known)
        if before is not None:
            before()
        with self._database.write() as session:
            known = take_turn(session, ticket, now=database_now(session))
            if known is None:
                made = make(session)
                keep_answer(session, ticket, made.model_dump(mode="json"))
                return made
        return self._again(model, known)

    def _again(self, model: type[Made], known: dict[str, object]) -> Made:
        self._response.headers["idempotent-replayed"] = "true"
        return model.model_validate(known)


OnceDep = Annotated[Once, Depends()]
