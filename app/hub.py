"""How repositories look to clients of the Hugging Face Hub."""

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha1
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.convertors import StringConvertor, register_url_convertor

from app.body import json_object
from app.services import CallerDep, ReadSession, ServicesDep
from core.hub.library import Library
from core.hub.repository import MAIN, About, Repository
from core.hub.tree import Commit, HubFile, Snapshot
from core.spec import request_error

Kind = Literal["models", "datasets"]

Json = dict[str, Any]

MAX_PATHS = 1000


class _KindConvertor(StringConvertor):
    regex = "models|datasets"


class _RepositoryConvertor(StringConvertor):
    """A repository's name in a path: `name` or `owner/name`."""

    regex = "[^/]+(?:/[^/]+)?"


register_url_convertor("kind", _KindConvertor())
register_url_convertor("repository", _RepositoryConvertor())


def _library(session: ReadSession, services: ServicesDep, caller: CallerDep) -> Library:
    settings = services.settings
    return Library(session, services.storage, settings, services.hashes, caller.project_id)


class PathsWanted(BaseModel):
    """Which paths of a tree are asked for."""

    paths: list[str] = Field(max_length=MAX_PATHS)
    expand: bool = False


async def _wanted_paths(request: Request) -> PathsWanted:
    """From a form, as Python's client sends it, or from JSON, as that of JavaScript does."""
    data: Json
    if "json" in request.headers.get("content-type", ""):
        data = await json_object(request)
    else:
        async with request.form(max_files=0, max_fields=MAX_PATHS + 1) as form:
            data = {"paths": form.getlist("paths"), "expand": form.get("expand", False)}
    try:
        return PathsWanted.model_validate(data)
    except ValidationError as error:
        raise request_error(error.errors()) from error


PathsDep = Annotated[PathsWanted, Depends(_wanted_paths)]

PATHS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": PathsWanted.model_json_schema()}
            for kind in ("application/x-www-form-urlencoded", "application/json")
        },
    }
}
"""How openapi.json describes PathsDep."""

LibraryDep = Annotated[Library, Depends(_library)]


def info(kind: Kind, repository: Repository, snapshot: Snapshot, *, blobs: bool) -> Json:
    """A repository at a revision; the oldest clients take the list of files from here."""
    siblings = [_sibling(file) if blobs else {"rfilename": file.path} for file in snapshot.files]
    return summary(kind, repository.about, snapshot.commit) | {"siblings": siblings}


def summary(kind: Kind, about: About, commit: Commit | None) -> Json:
    """What lists of repositories show of one."""
    modified_at = commit.created_at if commit else about.created_at
    found: Json = {
        "_id": sha1(about.name.encode(), usedforsecurity=False).hexdigest()[:24],
        "id": about.name,
        "author": about.name.partition("/")[0],
        "sha": commit.id if commit else None,
        "private": True,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [f"base_model:{about.base_model}"] if about.base_model else [],
        "createdAt": timestamp(about.created_at),
        "lastModified": timestamp(modified_at),
    }
    if kind == "models":
        found |= {"modelId": about.name, "pipeline_tag": "text-generation"}
        found |= {"library_name": about.library}
    return found


def entry(item: HubFile | str, commit: Commit, *, expand: bool) -> Json:
    """A file or a folder in a tree. Never with a `xetHash`, which would be asked for elsewhere."""
    if isinstance(item, str):
        oid = sha1(f"{commit.id}/{item}".encode(), usedforsecurity=False).hexdigest()
        found: Json = {"type": "directory", "path": item, "size": 0, "oid": oid}
    else:
        found = {"type": "file", "path": item.path, "size": item.size, "oid": item.oid}
        if item.sha256 is not None:
            sizes = {"size": item.size, "pointerSize": item.pointer_size}
            found["lfs"] = {"oid": item.sha256, **sizes}
    if expand:
        last = {"id": commit.id, "title": commit.title, "date": timestamp(commit.created_at)}
        found["lastCommit"] = last
    return found


def refs(repository: Repository) -> Json:
    """Branches and tags, with all keys that clients insist on."""
    main = repository.main()
    tags = repository.tags().items()
    return {
        "branches": [_ref(MAIN, "heads", main.id)] if main else [],
        "converts": [],
        "tags": [_ref(name, "tags", commit) for name, commit in tags],
        "pullRequests": [],
    }


def commits(history: Iterable[Commit]) -> list[Json]:
    """The history of a branch."""
    return [
        {
            "id": commit.id,
            "title": commit.title,
            "message": "",
            "authors": [{"user": "tuneyard"}],
            "date": timestamp(commit.created_at),
        }
        for commit in history
    ]


def file_headers(file: HubFile, snapshot: Snapshot) -> dict[str, str]:
    """What clients read on HEAD, beside size and tag."""
    return {
        "x-repo-commit": snapshot.commit.id,
        "x-linked-etag": f'"{file.etag}"',
        "x-linked-size": str(file.size),
    }


def timestamp(time: datetime) -> str:
    """A time in the one form that all clients parse."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03}Z"


def _sibling(file: HubFile) -> Json:
    found: Json = {"rfilename": file.path, "size": file.size, "blobId": file.oid}
    if file.sha256 is not None:
        sizes = {"size": file.size, "pointerSize": file.pointer_size}
        found["lfs"] = {"sha256": file.sha256, **sizes}
    return found


def _ref(name: str, group: str, commit: str) -> Json:
    return {"name": name, "ref": f"refs/{group}/{name}", "targetCommit": commit}
