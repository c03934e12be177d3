"""The Hugging Face Hub's protocol, for reading: set HF_ENDPOINT to this server's `/hf`."""

from itertools import islice
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from app.download import file_response
from app.hub import (
    PATHS_BODY,
    Json,
    Kind,
    LibraryDep,
    PathsDep,
    commits,
    entry,
    file_headers,
    info,
    refs,
    summary,
    timestamp,
)
from core.db import database_now

PREFIX = "/hf"
PAGE = 1000
EXPANDED_PAGE = 50
MAX_LISTED = 1000

router = APIRouter(prefix=PREFIX, tags=["hub"])

Name = Annotated[str, Path(max_length=200, description="`owner/name`, or `name` alone.")]
Revision = Annotated[str, Path(max_length=200, description="main, step-N, or a commit.")]

REPOSITORY = "/api/{kind:kind}/{name:repository}"
FILE = "/{name:repository}/resolve/{revision}/{path:path}"
RAW_FILE = "/{name:repository}/raw/{revision}/{path:path}"
"""Where the JavaScript client looks whether a file is there."""


class TreePage(BaseModel):
    """Which part of a tree is wanted."""

    recursive: bool = False
    expand: bool = False
    limit: int = Field(PAGE, ge=1, le=PAGE)
    cursor: int = Field(0, ge=0, le=10**9)


@router.get("/api/whoami-v2")
def whoami(library: LibraryDep) -> Json:
    """Tell who the key is."""
    name = library.project_id
    token = {
        "displayName": name,
        "role": "read",
        "createdAt": timestamp(database_now(library.session)),
    }
    return {
        "type": "user",
        "id": name,
        "name": name,
        "fullname": name,
        "email": None,
        "orgs": [],
        "isPro": False,
        "auth": {"type": "access_token", "accessToken": token},
    }


@router.get("/api/{kind:kind}")
def get_repositories(
    library: LibraryDep,
    kind: Kind,
    author: str | None = None,
    search: str = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = MAX_LISTED,
) -> list[Json]:
    """List the repositories, the newest first."""
    found = library.models() if kind == "models" else library.datasets()
    wanted = (
        about
        for about in found
        if search.lower() in about.name.lower()
        and (author is None or about.name.startswith(f"{author}/"))
    )
    return [summary(kind, about, None) for about in islice(wanted, limit)]


@router.get(REPOSITORY + "/auth-check")
def check_access(library: LibraryDep, kind: Kind, name: Name) -> Json:
    """Tell whether the key may read a repository."""
    library.repository(kind, name)
    return {}


@router.get(REPOSITORY + "/refs")
def get_refs(library: LibraryDep, kind: Kind, name: Name) -> Json:
    """List branches and tags."""
    return refs(library.repository(kind, name))


@router.get(REPOSITORY + "/commits/{revision}")
def get_commits(library: LibraryDep, kind: Kind, name: Name, revision: Revision) -> list[Json]:
    """List a revision and those before it."""
    return commits(library.repository(kind, name).history(revision))


@router.post(REPOSITORY + "/paths-info/{revision}", openapi_extra=PATHS_BODY)
def get_paths(
    library: LibraryDep,
    kind: Kind,
    name: Name,
    revision: Revision,
    wanted: PathsDep,
) -> list[Json]:
    """Describe some paths; those that do not exist are left out."""
    snapshot = library.repository(kind, name).snapshot(revision)
    return [
        entry(item, snapshot.commit, expand=wanted.expand) for item in snapshot.at(wanted.paths)
    ]


@router.get(REPOSITORY + "/tree/{revision}")
@router.get(REPOSITORY + "/tree/{revision}/{path:path}")
def get_tree(
    request: Request,
    response: Response,
    library: LibraryDep,
    kind: Kind,
    name: Name,
    revision: Revision,
    page: Annotated[TreePage, Query()],
    path: str = "",
) -> list[Json]:
    """List files and folders in pages; the header Link leads to the next one."""
    snapshot = library.repository(kind, name).snapshot(revision)
    found = snapshot.below(path.strip("/"), recursive=page.recursive)
    end = page.cursor + min(page.limit, EXPANDED_PAGE if page.expand else PAGE)
    if end < len(found):
        query = urlencode(dict(request.query_params) | {"cursor": end})
        response.headers["link"] = f'<{request.url.replace(query=query)}>; rel="next"'
    return [entry(item, snapshot.commit, expand=page.expand) for item in found[page.cursor : end]]


@router.get(REPOSITORY)
@router.get(REPOSITORY + "/revision/{revision:path}")
def get_info(
    library: LibraryDep, kind: Kind, name: Name, revision: str = "main", blobs: bool = False
) -> Json:
    """Describe a repository at a revision."""
    repository = library.repository(kind, name)
    return info(kind, repository, repository.snapshot(revision), blobs=blobs)


@router.get("/datasets" + FILE, response_class=Response)
@router.head("/datasets" + FILE, include_in_schema=False)
@router.api_route("/datasets" + RAW_FILE, methods=["GET", "HEAD"], include_in_schema=False)
def get_dataset_file(
    request: Request, library: LibraryDep, name: Name, revision: Revision, path: str
) -> Response:
    """Download a file of a dataset."""
    return _file(request, library, "datasets", name, revision, path)


@router.get(FILE, response_class=Response)
@router.head(FILE, include_in_schema=False)
@router.api_route(RAW_FILE, methods=["GET", "HEAD"], include_in_schema=False)
def get_model_file(
    request: Request, library: LibraryDep, name: Name, revision: Revision, path: str
) -> Response:
    """Download a file of a model: Range, ETag by content, and HEAD."""
    return _file(request, library, "models", name, revision, path)


def _file(
    request: Request, library: LibraryDep, kind: Kind, name: str, revision: str, path: str
) -> Response:
    snapshot = library.repository(kind, name).snapshot(revision)
    file = snapshot.file(path)
    more = file_headers(file, snapshot)
    if revision != snapshot.commit.id:
        # Clients that go on with a broken download ask by this address again, and compare only
        # sizes: they must not get the rest of another commit.
        prefix = "datasets/" if kind == "datasets" else ""
        target = f"{prefix}{name}/resolve/{snapshot.commit.id}/{file.path}"
        location = f"{request.scope.get('root_path', '')}{PREFIX}/{quote(target)}"
        return Response(status_code=307, headers=more | {"location": location})
    return file_response(
        request,
        snapshot.storage,
        key=file.key,
        size=file.size,
        tag=file.etag,
        filename=file.path.rpartition("/")[2],
        more=more,
    )
