"""The API over HTTP: one client, and its failures in the user's words."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from cli.config import Connection, connection
from cli.errors import Exit, UserError
from cli.flags import flags

TIMEOUT = httpx.Timeout(60, connect=5)
EXITS = {
    400: Exit.USAGE,
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    "invalid_state": Exit.CONFLICT,
    "invalid_file": Exit.DATA_REFUSED,
    "insufficient_disk": Exit.DATA_REFUSED,
}
"""By the error's code where it says more than the status does."""
HINTS = {
    401: "Sign in with `tuneyard login`, or set TUNEYARD_API_KEY.",
    "job_not_found": "`tuneyard list` shows the jobs.",
    "file_not_found": "`tuneyard files list` shows the files.",
    "worker_not_found": "`tuneyard workers list` shows the workers.",
    "model_not_found": "`tuneyard models list` shows those of the server; a Hub id works, too.",
}
TERMINAL = ("succeeded", "failed", "cancelled")
JOBS = "/v1/fine_tuning/jobs"
PLAN = "/v1/fine_tuning/plan"
TOKENS = "/v1/fine_tuning/tokens"
NAMED_AT_ONCE = 6
ID_LENGTH = len("ftjob-") + 24


class Client:
    """Calls of the API that the command needs."""

    def __init__(self, to: Connection | None = None) -> None:
        found = to or connection()
        self.url = found.url
        headers = {"Authorization": f"Bearer {found.key or 'none'}"}
        hooks: dict[str, list[Any]] = {"response": [_tell]} if flags.is_debug else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, event_hooks=hooks
        )

    def close(self) -> None:
        """End its connections; those of a process end with it."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """A JSON object."""
        return self.call("GET", path, params=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """A JSON object; `body` is sent as JSON."""
        return self.call("POST", path, json=body, params=query)

    def delete(self, path: str) -> Any:
        """What was deleted."""
        return self.call("DELETE", path)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Any JSON object, or nothing where the answer has none."""
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        return response.json() if response.content else None

    def pages(self, path: str, *, limit: int, **query: Any) -> list[Any]:
        """The first `limit` items of a list, however many pages they take."""
        found: list[Any] = []
        while len(found) < limit:
            page = self.get(path, limit=min(100, limit - len(found)), **query)
            found += page["data"]
            if not page["has_more"]:
                break
            query["after"] = page["last_id"]
        return found

    def job(self, name: str) -> Any:
        """A job by its id, a unique prefix of it, its own suffix, or `@last`."""
        if name.startswith("ftjob-") and len(name) == ID_LENGTH:
            return self.get(f"{JOBS}/{name}")
        found = self._named(name) if name else []
        if len(found) != 1:
            what = "No job has" if not found else "More than one job has"
            hint = ", ".join(job["id"] for job in found[:5]) or HINTS["job_not_found"]
            raise UserError(f"{what} the name {name!r}.", hint, code=Exit.NOT_FOUND)
        return self.get(f"{JOBS}/{found[0]['id']}")

    def file(self, name: str) -> Any:
        """A file by its id, a unique prefix of it, its filename, or `@last`."""
        files = self.get("/v1/files")["data"] if name else []
        found = [file for file in files if file["id"] == name] or _files_named(name, files)
        if len(found) != 1:
            what = "No file has" if not found else f"{len(found)} files have"
            hint = ", ".join(file["id"] for file in found[:5]) or HINTS["file_not_found"]
            raise UserError(f"{what} the name {name!r}.", hint, code=Exit.NOT_FOUND)
        return found[0]

    @contextmanager
    def stream(self, path: str, **headers: str) -> Iterator[httpx.Response]:
        """An open answer to read piece by piece."""
        try:
            with self._http.stream("GET", path, headers=headers) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _named(self, name: str) -> list[Any]:
        if name == "@last":
            return list(self.get(JOBS, limit=1)["data"])
        return list(self.get(JOBS, limit=NAMED_AT_ONCE, name=name)["data"])

    def _unreachable(self, error: httpx.TransportError) -> UserError:
        return UserError(
            f"No server at {self.url} ({error}).",
            "Start one with `tuneyard up`, or set TUNEYARD_URL.",
            code=Exit.NO_SERVER,
        )


def _files_named(name: str, files: list[Any]) -> list[Any]:
    if name == "@last":
        return files[:1]
    prefixes = (name, f"file-{name}")
    return [file for file in files if file["filename"] == name or file["id"].startswith(prefixes)]


def _tell(response: httpx.Response) -> None:
    request, number = response.request, response.headers.get("x-request-id", "")
    sys.stderr.write(f"{request.method} {request.url} {response.status_code} {number}\n")


def _refused(response: httpx.Response) -> UserError:
    try:
        error = response.json()["error"]
        message = error["message"]
    except (ValueError, KeyError, TypeError):
        error, message = {}, f"The server answered {response.status_code}."
    code = EXITS.get(error.get("code")) or EXITS.get(response.status_code, Exit.ERROR)
    hint = HINTS.get(error.get("code")) or HINTS.get(response.status_code, "")
    if code is Exit.ERROR:
        hint = f"Request {response.headers.get('x-request-id', '')}"
    return UserError(message, hint, code=code)
