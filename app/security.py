"""Who may come in: holders of the key, or, as long as there is no key, this machine only."""

import hmac
import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import problem
from app.routes.page import DOCUMENT_PATHS
from core.errors import Forbidden, TuneyardError, Unauthorized
from core.settings import Settings

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", *DOCUMENT_PATHS})
_OF_THE_PAGE = re.compile(r"/static/.*|/jobs/[^/]+")
"""The page's own files, which hold nothing of anybody; below a job there is what it learned."""


class SecurityMiddleware:
    """Refuses requests before any handler sees them."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._key = settings.api_key.encode() if settings.api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and not _is_public(scope["path"]):
            refusal = self._refusal(Headers(scope=scope))
            if refusal is not None:
                await problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers) -> TuneyardError | None:
        if self._key is None:
            return _foreign(headers)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return Unauthorized()
        if not hmac.compare_digest(key.strip().encode(), self._key):
            return Unauthorized("This API key is not known here.")
        return None


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or _OF_THE_PAGE.fullmatch(path) is not None


_NOT_LOCAL = (
    "Without a key this server answers on loopback addresses only. "
    "Set TUNEYARD_API_KEY on the server to serve other machines."
)
_OTHER_SITE = (
    "Without a key this server answers no page of another site. "
    "Set TUNEYARD_API_KEY on the server to serve other sites."
)


def _foreign(headers: Headers) -> Forbidden | None:
    if not _is_loopback(headers.get("host", "")):
        return Forbidden(_NOT_LOCAL)
    # Browsers send a plain POST of any page to us, and only tell whose page it is.
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(origin.partition("://")[2]):
        return Forbidden(_OTHER_SITE)
    return None


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine; a page that rebinds its name to us does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
