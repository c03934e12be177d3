"""Who may come in: holders of a key, or, as long as there never was one, this machine only."""

import hmac
import ipaddress
import re
from collections.abc import Collection
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from app.caller import Caller
from app.problems import problem
from app.routes.page import DOCUMENT_PATHS
from app.visits import Visits
from core.access import ApiKey
from core.db import Database, database_now
from core.errors import Forbidden, TuneyardError, Unauthorized
from core.keys import Scope, find_key, find_session, has_keys, usable_keys, usable_sessions
from core.settings import Settings

SESSION_PATH = "/session"
COOKIE = "tuneyard_session"
PUBLIC_PATHS = frozenset({"/healthz", "/readyz", *DOCUMENT_PATHS})
_OF_THE_PAGE = re.compile(r"/static/.*|/jobs/[^/]+|/docs/guide(/.*)?")
"""The page's own files, which hold nothing of anybody; below a job there is what it learned."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})
_READS_BY_POST = re.compile(r"/v1/fine_tuning/(plan|tokens)|/hf/.*")
_FOR_ADMINS = re.compile(r"/v1/(keys|projects|audit)(/.*)?|/v1/workers/[^/]+/(un)?drain")


class SecurityMiddleware:
    """Refuses requests before any handler sees them, and tells handlers who asks."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app = app
        self._gate: Gate | None = None
        self._settings = settings
        self._visits = Visits(self._still_welcome)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or _is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            caller = await run_in_threadpool(self._enter, scope)
        except TuneyardError as refusal:
            await problem(refusal)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._visits.serve(self._app, caller, scope, receive, send)

    def _enter(self, scope: AsgiScope) -> Caller:
        if self._gate is None:
            self._gate = Gate(scope["app"].state.services.database, self._settings)
        return self._gate.enter(scope["method"], scope["path"], Headers(scope=scope))

    def _still_welcome(self, callers: Collection[Caller]) -> Collection[Caller]:
        assert self._gate is not None, "whoever is here came in by it"
        return self._gate.still_welcome(callers)


class Gate:
    """Finds out who asks, and whether they may."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._key = settings.api_key
        self._has_keys = self._key is not None

    def enter(self, method: str, path: str, headers: Headers) -> Caller:
        """The caller of a request; Unauthorized or Forbidden when there is none to be let in."""
        caller = self._by_key(_bearer(headers)) or self._by_cookie(method, headers)
        if caller is None:
            if path == SESSION_PATH and (method == "DELETE" or self._is_locked()):
                # Signing in says by itself who asks; signing out needs nobody.
                return Caller(scope=Scope.READ)
            if self._is_locked():
                raise _refusal(headers)
            _check_local(headers)
            caller = Caller()
        needed = _needed_scope(method, path)
        if not caller.scope.covers(needed):
            raise Forbidden(f"This key may {caller.scope}; for this one must be able to {needed}.")
        return caller

    def find(self, text: str) -> tuple[Caller, ApiKey | None] | None:
        """Whose key this is; its row is null for the key of the settings."""
        if self._key is not None and hmac.compare_digest(text.encode(), self._key.encode()):
            return Caller(), None
        with self._database.read() as session:
            key = find_key(session, text, now=database_now(session))
        return (_caller_of(key), key) if key is not None else None

    def still_welcome(self, callers: Collection[Caller]) -> set[Caller]:
        """Those of them whose key and whose browser's session may still be used."""
        key_ids = {caller.key_id for caller in callers if caller.key_id is not None}
        hashes = {caller.session for caller in callers if caller.session is not None}
        with self._database.read() as session:
            now = database_now(session)
            good = {None, *usable_keys(session, key_ids, now=now)}
            good |= usable_sessions(session, hashes, now=now)
        is_open = self._key is not None or not self._is_locked()
        return {
            caller
            for caller in callers
            if {caller.key_id, caller.session} <= good and (caller.key_id is not None or is_open)
        }

    def _by_key(self, text: str | None) -> Caller | None:
        found = self.find(text) if text else None
        return found[0] if found else None

    def _by_cookie(self, method: str, headers: Headers) -> Caller | None:
        text = cookie_of(headers)
        if text is None:
            return None
        if method not in READING and not _is_same_site(headers):
            raise Forbidden("A page of another site may not do this in your name.")
        with self._database.read() as session:
            found = find_session(session, text, now=database_now(session))
        if found is None:
            return None
        caller = _caller_of(found[1]) if found[1] is not None else self._of_settings()
        return replace(caller, session=found[0].hash) if caller is not None else None

    def _of_settings(self) -> Caller | None:
        return Caller() if self._key is not None else None

    def _is_locked(self) -> bool:
        if not self._has_keys:
            with self._database.read() as session:
                self._has_keys = has_keys(session)
        return self._has_keys


def cookie_of(headers: Headers) -> str | None:
    """The text of a browser's session."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None and found.value else None


def _caller_of(key: ApiKey) -> Caller:
    return Caller(key.project_id, key.id, Scope(key.scope))


def _bearer(headers: Headers) -> str | None:
    given = headers.getlist("authorization")
    if len(given) > 1:
        # A proxy may have looked at the other one.
        raise Unauthorized("Send one Authorization header, not several.")
    scheme, _, key = "".join(given).partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def _refusal(headers: Headers) -> Unauthorized:
    if _bearer(headers) is None:
        return Unauthorized()
    return Unauthorized("This API key is not known here.")


def _needed_scope(method: str, path: str) -> Scope:
    if path == SESSION_PATH:
        return Scope.READ
    if _FOR_ADMINS.fullmatch(path):
        return Scope.ADMIN
    return Scope.READ if method in READING or _READS_BY_POST.fullmatch(path) else Scope.WRITE


def _is_public(path: str) -> bool:
    return path in PUBLIC_PATHS or _OF_THE_PAGE.fullmatch(path) is not None


_NOT_LOCAL = (
    "Without a key this server answers on loopback addresses only. "
    "Make one on the server with `tuneyard keys create`, or set TUNEYARD_API_KEY there."
)
_OTHER_SITE = (
    "Without a key this server answers no page of another site. "
    "Make one on the server with `tuneyard keys create`, or set TUNEYARD_API_KEY there."
)


_BY_PROXY = (
    "This request came through a proxy ({header}), and without a key that lets in whoever reaches "
    "it. Make the first key on the server with `tuneyard keys create NAME --scope admin`, or set "
    "TUNEYARD_API_KEY there."
)
_OF_PROXIES = re.compile(r"forwarded|via|x-real-ip|x-forwarded-.+")


def _check_local(headers: Headers) -> None:
    # A proxy on this machine may pass on any stranger's Host: it is no sign of who asks then.
    header = next((name for name in headers if _OF_PROXIES.fullmatch(name)), None)
    if header is not None:
        raise Forbidden(_BY_PROXY.format(header=header))
    if not _is_loopback(headers.get("host", "")):
        raise Forbidden(_NOT_LOCAL)
    # Browsers send a plain POST of any page to us, and only tell whose page it is.
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(origin.partition("://")[2]):
        raise Forbidden(_OTHER_SITE)


def _is_same_site(headers: Headers) -> bool:
    origin: Any = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine; a page that rebinds its name to us does not."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
