"""What every answer gets, streams included: a request id, and an envelope for too large bodies."""

import logging
import re
import secrets
import time
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.exposition import Traffic
from app.problems import envelope, problem
from core.errors import InvalidArgument

logger = logging.getLogger("app.access")

_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIdMiddleware:
    """Sets x-request-id (the client's own, if it sent a plain one), logs and counts the request."""

    def __init__(self, app: ASGIApp, traffic: Traffic):
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _CLIENT_ID.fullmatch(given) else f"req_{secrets.token_hex(12)}"
        started = time.monotonic()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers.setdefault("x-content-type-options", "nosniff")
                seconds = time.monotonic() - started
                self._traffic.saw(scope, message["status"], seconds)
                logger.info(
                    "%s %s %d %.0f ms %s",
                    scope["method"],
                    quote(scope["path"]),
                    message["status"],
                    seconds * 1000,
                    request_id,
                )
            await send(message)

        await self._app(scope, receive, send_with_id)


class TooLargeMiddleware:
    """Puts the framework's plain 413 into the envelope."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        replaced = False

        async def send_enveloped(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                is_json = "json" in Headers(raw=message["headers"]).get("content-type", "")
                replaced = not is_json
                if replaced:
                    text = "The body is larger than this server accepts."
                    response = envelope(413, text, code="too_large")
                    await response(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, send_enveloped)


class NulMiddleware:
    """Refuses NUL in a path or a query, which PostgreSQL cannot even look for."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            refusal = InvalidArgument("The URL has a NUL character.")
            await problem(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)
