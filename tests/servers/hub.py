"""A Hugging Face Hub in small: the reads that clients do, from folders `kind/owner/name`.

A folder may change: that is a new commit, and those that somebody has seen stay.
"""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from cli.embedded.broker import free_port


class FakeHub:
    """Serves repositories; keeps what was asked for."""

    def __init__(self, root: Path):
        self._root = root
        self.history = root / "history"
        """A folder for each commit that was told; without it, only the newest ones are there."""
        self.tokens: set[str | None] = set()
        self.asked: list[str] = []
        """Paths, in order."""
        self.gated: set[str] = set()
        """Names of repositories whose files nobody gets."""
        self.sent: set[str] = set()
        """Names of files that were sent."""
        api, repo = "/api/{kind}/{owner}/{name}", "{owner}/{name}/resolve/{revision}/{path:path}"
        self.app = Starlette(
            routes=[
                Route(api, self._info),
                Route(f"{api}/revision/{{revision}}", self._info),
                Route(f"{api}/tree/{{revision}}", self._tree),
                Route(f"{api}/tree/{{revision}}/{{path:path}}", self._missing),
                Route(f"/datasets/{repo}", self._dataset_file, methods=["GET", "HEAD"]),
                Route(f"/{repo}", self._model_file, methods=["GET", "HEAD"]),
            ]
        )

    def _folder(self, request: Request, kind: str) -> Path | None:
        self.tokens.add(request.headers.get("authorization"))
        self.asked.append(request.url.path)
        values = request.path_params
        folder = self._root / kind / values["owner"] / values["name"]
        return folder if folder.is_dir() else None

    def _at(self, request: Request, folder: Path) -> Path | None:
        """The folder as it was at the commit that a request names."""
        revision = request.path_params.get("revision", "main")
        now = _commit(folder)
        kept = self.history / now
        if not kept.exists():
            shutil.copytree(folder, kept)
        if revision in ("main", now):
            return kept
        kept = self.history / revision
        return kept if kept.is_dir() else None

    async def _info(self, request: Request) -> Response:
        folder = self._folder(request, request.path_params["kind"])
        if folder is None:
            return _error("RepoNotFound")
        found = self._at(request, folder)
        if found is None:
            return _error("RevisionNotFound")
        name = f"{folder.parent.name}/{folder.name}"
        siblings = [{"rfilename": path.name} for path in sorted(found.iterdir())]
        return JSONResponse({"id": name, "sha": found.name, "siblings": siblings})

    async def _tree(self, request: Request) -> Response:
        folder = self._folder(request, request.path_params["kind"])
        if folder is None:
            return _error("RepoNotFound")
        found = self._at(request, folder)
        return _error("RevisionNotFound") if found is None else JSONResponse(_entries(found))

    async def _missing(self, _: Request) -> Response:
        return _error("EntryNotFound")

    async def _dataset_file(self, request: Request) -> Response:
        return self._file(request, "datasets")

    async def _model_file(self, request: Request) -> Response:
        return self._file(request, "models")

    def _file(self, request: Request, kind: str) -> Response:
        folder = self._folder(request, kind)
        if folder is None:
            return _error("RepoNotFound")
        if f"{folder.parent.name}/{folder.name}" in self.gated:
            return _error("GatedRepo", status=403)
        found = self._at(request, folder)
        if found is None:
            return _error("RevisionNotFound")
        path = found / request.path_params["path"]
        headers = {"x-repo-commit": found.name}
        if not path.is_file():
            return _error("EntryNotFound", headers)
        self.sent.add(path.name)
        return FileResponse(path, headers=headers | {"etag": f'"{_blob(path)}"'})


@contextmanager
def running_hub(root: Path) -> Iterator[tuple[FakeHub, str]]:
    """A hub over `root`, and its address."""
    hub, port = FakeHub(root), free_port()
    config = uvicorn.Config(hub.app, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        pause = threading.Event()
        while not server.started:
            pause.wait(0.02)
        yield hub, f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _entries(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _blob(path)}
        for path in sorted(folder.iterdir())
    ]


def _blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _commit(folder: Path) -> str:
    return hashlib.sha1(str(_entries(folder)).encode()).hexdigest()


def _error(code: str, headers: dict[str, str] | None = None, *, status: int = 404) -> Response:
    return Response(status_code=status, headers={"x-error-code": code, **(headers or {})})
