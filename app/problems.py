"""Errors on the wire: OpenAI's envelope on every path, and a status for each branch of our tree."""

import logging
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from core.errors import (
    Conflict,
    EntryNotFound,
    Forbidden,
    Invalid,
    LeaseLost,
    NotFound,
    RateLimited,
    RepositoryNotFound,
    RevisionNotFound,
    StorageFull,
    TooLarge,
    TuneyardError,
    Unauthorized,
    Unavailable,
)
from core.full import is_full
from core.spec import request_error

logger = logging.getLogger(__name__)

STATUS: dict[type[TuneyardError], int] = {
    Invalid: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    LeaseLost: 409,
    TooLarge: 413,
    RateLimited: 429,
    Unavailable: 503,
    StorageFull: 507,
}
"""HTTP status of a branch; a class is answered like the nearest of its bases."""

HEADERS: dict[int, dict[str, str]] = {
    401: {"www-authenticate": "Bearer"},
    503: {"retry-after": "2"},
}

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""What may go better the next time. Clients by themselves would repeat a 409, too."""

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "requests",
    503: "service_unavailable_error",
    507: "service_unavailable_error",
    500: "server_error",
}
"""OpenAI's `type` by status; `invalid_request_error` for the rest."""

HUB_CODES: dict[type[TuneyardError], str] = {
    RepositoryNotFound: "RepoNotFound",
    RevisionNotFound: "RevisionNotFound",
    EntryNotFound: "EntryNotFound",
}
"""The header by which clients of the Hub tell errors; they read no body."""

_REASONS = {
    404: "There is no such path: {method} {path}",
    405: "{method} is not possible on {path}",
    413: "The body is larger than this server accepts.",
}


def install(app: FastAPI) -> None:
    """Answer every error of this app in the envelope."""
    app.add_exception_handler(TuneyardError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(OSError, _on_file_error)
    app.add_exception_handler(Exception, _on_bug)


def envelope(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    details: dict[str, Any] | None = None,
) -> Response:
    """OpenAI's error body."""
    error = {
        "message": message,
        "type": TYPES.get(status, "invalid_request_error"),
        "param": param,
        "code": code,
        **(details or {}),
    }
    return Response(
        orjson.dumps({"error": error}),
        status,
        headers=HEADERS.get(status, {}) | {"x-should-retry": str(status in RETRIED).lower()},
        media_type="application/json",
    )


def problem(error: TuneyardError) -> Response:
    """The answer to one of our own errors."""
    status = next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)
    response = envelope(
        status, error.message, code=error.code, param=error.param, details=error.details
    )
    response.headers.update(_hub_headers(error))
    return response


def _hub_headers(error: TuneyardError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        # The words by which clients know that it is the token, not the repository.
        return {"x-error-message": "Invalid credentials in Authorization header"}
    code = HUB_CODES.get(type(error))
    if code is None:
        return {}
    headers = {"x-error-code": code, "x-error-message": ascii(error.message)[1:-1]}
    if "commit" in error.details:
        # With it, clients remember that there is no such file, and do not ask again.
        headers["x-repo-commit"] = error.details["commit"]
    return headers


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, TuneyardError)
    logger.info("%s %s: %s", request.method, request.url.path, error.message)
    return problem(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{**item, "loc": item["loc"][1:] or item["loc"]} for item in error.errors()]
    return problem(request_error(found))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):
        # The framework calls whatever happens while it reads a body the client's fault.
        return await _on_file_error(request, error.__cause__)
    message = error.detail
    if error.status_code in _REASONS:
        names = {"method": request.method, "path": request.url.path[:200]}
        message = _REASONS[error.status_code].format(**names)
    response = envelope(error.status_code, message, code=_CODES.get(error.status_code))
    response.headers.update(error.headers or {})
    if error.status_code == 405:
        response.headers["allow"] = ", ".join(sorted(_allowed(request)))
    return response


async def _on_gone(request: Request, _: Exception) -> Response:
    """The client left in the middle of its body: nobody reads the answer."""
    logger.info("%s %s: the client is gone", request.method, request.url.path)
    return envelope(400, "The body ended before it was complete.", code="incomplete_body")


async def _on_file_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if is_full(error):
        # An upload waits in a temporary file until all of it is here.
        return problem(StorageFull("The disk of the server is full; nothing was stored."))
    return await _on_bug(request, error)


def _allowed(request: Request) -> set[str]:
    """The methods of all routes of this path; the framework names those of the first."""
    routes: list[Route] = request.app.state.routes
    found = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return {method for route in found for method in route.methods or ()}


async def _on_bug(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return envelope(500, "The server failed on this request. The log has the details.")


_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
