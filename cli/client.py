"""The API over HTTP: one client, and its failures in the user's words."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.errors import Exit, UserError

DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT = httpx.Timeout(60, connect=5)
UPLOAD_TIMEOUT = httpx.Timeout(None, connect=5)
"""The answer to an upload comes when every line has been checked."""
EXITS = {
    400: Exit.USAGE,
    401: Exit.NOT_ALLOWED,
    403: Exit.NOT_ALLOWED,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    "invalid_state": Exit.CONFLICT,
    "invalid_file": Exit.DATA_REFUSED,
}
"""By the error's code where it says more than the status does."""
TERMINAL = ("succeeded", "failed", "cancelled")
JOBS = "/v1/fine_tuning/jobs"
PLAN = "/v1/fine_tuning/plan"
TOKENS = "/v1/fine_tuning/tokens"
PART_BYTES = 32 * 1024**2
"""Larger files are sent in parts, each of which can be sent again."""
TRIES = 5


class Client:
    """Calls of the API that the command needs."""

    def __init__(self) -> None:
        self.url = os.environ.get("TUNEYARD_URL", DEFAULT_URL).rstrip("/")
        key = os.environ.get("TUNEYARD_API_KEY", "none")
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT)

    def get(self, path: str, **query: Any) -> Any:
        """A JSON object."""
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """A JSON object; `body` is sent as JSON."""
        return self._call("POST", path, json=body, params=query)

    def delete(self, path: str) -> Any:
        """What was deleted."""
        return self._call("DELETE", path)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Any JSON object."""
        return self._call(method, path, **({} if body is None else {"json": body}))

    def upload(self, path: Path) -> Any:
        """The file object of a new upload to train on."""
        size = path.stat().st_size
        with path.open("rb") as source, progress(f"Uploading {path.name}", size) as advance:
            if size > PART_BYTES:
                return self._upload_parts(path.name, size, source, advance)
            files = {"file": (path.name, source)}
            data = {"purpose": "fine-tune"}
            return self._call("POST", "/v1/files", files=files, data=data, timeout=UPLOAD_TIMEOUT)

    def _upload_parts(
        self, name: str, size: int, source: BinaryIO, advance: Callable[[int], None]
    ) -> Any:
        about = {"filename": name, "purpose": "fine-tune", "bytes": size}
        upload = self.post("/v1/uploads", about | {"mime_type": "application/octet-stream"})
        path, parts = f"/v1/uploads/{upload['id']}", []
        while part := source.read(PART_BYTES):
            parts.append(self._send_part(path, part))
            advance(len(part))
        body = {"part_ids": parts}
        done = self._call("POST", f"{path}/complete", json=body, timeout=UPLOAD_TIMEOUT)
        return self.get(f"/v1/files/{done['file']['id']}")

    def _send_part(self, path: str, part: bytes) -> str:
        """The id of a stored part; a connection that breaks costs this part and no other."""
        for attempt in range(TRIES):
            try:
                sent = self._call("POST", f"{path}/parts", files={"data": part})
            except UserError as error:
                if error.code is not Exit.NO_SERVER or attempt == TRIES - 1:
                    raise
                time.sleep(2**attempt)
            else:
                return str(sent["id"])
        raise AssertionError

    def job(self, name: str) -> Any:
        """A job by its id, a unique prefix of it, its own suffix, or `@last`."""
        if name.startswith("ftjob-") and len(name) == len("ftjob-") + 24:
            return self.get(f"{JOBS}/{name}")
        jobs = self.get(JOBS, limit=100)["data"]
        found = _named(name, jobs)
        if len(found) != 1:
            what = "No job has" if not found else f"{len(found)} jobs have"
            hint = ", ".join(job["id"] for job in found[:5]) or "tuneyard list"
            raise UserError(f"{what} the name {name!r}.", hint, code=Exit.NOT_FOUND)
        return self.get(f"{JOBS}/{found[0]['id']}")

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

    def download(self, path: str, target: Path, *, size: int, sha256: str) -> None:
        """A file, from where an earlier download stopped, verified before it appears."""
        if target.is_file() and _sha256(target) == sha256:
            return
        partial = target.with_name(f"{target.name}.{sha256[:8]}.partial")
        target.parent.mkdir(parents=True, exist_ok=True)
        start = partial.stat().st_size if partial.exists() else 0
        if start < size:
            mode = {"range": f"bytes={start}-", "if-range": f'"{sha256}"'} if start else {}
            with self.stream(path, **mode) as response, progress(target.name, size) as advance:
                resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
                advance(start if resumed else 0)
                with partial.open("ab" if resumed else "wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
                        advance(len(chunk))
        partial.touch()
        if _sha256(partial) != sha256:
            partial.unlink()
            raise UserError(f"{target.name} arrived damaged.", "Download it again.")
        partial.replace(target)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        return response.json()

    def _unreachable(self, error: httpx.TransportError) -> UserError:
        return UserError(
            f"No server at {self.url} ({error}).",
            "Start one with `tuneyard up`, or set TUNEYARD_URL.",
            code=Exit.NO_SERVER,
        )


@contextmanager
def progress(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; call what it gives with the bytes that were moved."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=size)
        yield lambda count: bar.advance(task, count)


def _named(name: str, jobs: list[Any]) -> list[Any]:
    """The jobs that a name can mean; a suffix counts as much as the beginning of an id."""
    if not name:
        return []
    if name == "@last":
        return jobs[:1]
    prefixes = (name, f"ftjob-{name}")
    return [
        job for job in jobs if job["user_provided_suffix"] == name or job["id"].startswith(prefixes)
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refused(response: httpx.Response) -> UserError:
    try:
        error = response.json()["error"]
        message = error["message"]
    except (ValueError, KeyError, TypeError):
        error, message = {}, f"The server answered {response.status_code}."
    code = EXITS.get(error.get("code")) or EXITS.get(response.status_code, Exit.ERROR)
    request_id = response.headers.get("x-request-id", "")
    return UserError(message, f"Request {request_id}" if code is Exit.ERROR else "", code=code)
