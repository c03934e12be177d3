"""JSON bodies by a strict parser of our own: no NaN, no lone surrogates, no echo of the input."""

import threading
from typing import Annotated, Any

import orjson
from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from core.errors import InvalidArgument

MAX_DEPTH = 32
LARGE_BYTES = 64 * 1024
"""From here on parsing takes so long that it would hold up all other requests."""
MAX_VALUES = 20_000
"""Names and values of a body; ten times what the largest sensible one has."""


_TURN = threading.Lock()


async def _optional_json_object(request: Request) -> dict[str, Any]:
    return await json_object(request) if await request.body() else {}


OptionalJsonObject = Annotated[dict[str, Any], Depends(_optional_json_object)]


async def _json_object(request: Request, body: OptionalJsonObject) -> dict[str, Any]:
    # Parsed once, for whoever asks for it.
    return body if await request.body() else parse_body(b"")


JsonObject = Annotated[dict[str, Any], Depends(_json_object)]


async def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object, or InvalidArgument."""
    raw = await request.body()
    if len(raw) < LARGE_BYTES:
        return parse_body(raw)
    return await run_in_threadpool(_parsed_in_turn, raw)


def _parsed_in_turn(raw: bytes) -> dict[str, Any]:
    # Parsed, a body takes twenty times its bytes: never that of many at once.
    with _TURN:
        return parse_body(raw)


def parse_body(raw: bytes) -> dict[str, Any]:
    """The same of bytes that are all here."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        ) from error
    if not isinstance(body, dict):
        raise InvalidArgument("The body must be a JSON object.")
    _check(body)
    return body


def _check(body: dict[str, Any]) -> None:
    """Refuse what the database or a later pass over the body could not take."""
    level: list[Any] = [body]
    seen = 0
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
        seen += len(level)
        if seen > MAX_VALUES:
            raise InvalidArgument(f"The body has more than {MAX_VALUES:,} names and values.")
    raise InvalidArgument(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _children(value: Any) -> list[Any]:
    if isinstance(value, str) and "\0" in value:
        raise InvalidArgument("The body has a NUL character in a string.")
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []
