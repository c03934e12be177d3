"""OpenAI's files."""

from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile

from app.download import file_response
from app.schemas import Deleted, FileObject, Page
from app.services import DatabaseDep, ReadSession, ServicesDep, WriteSession
from app.uploads import ExpirySeconds
from core.dataset import FormatName
from core.db import database_now
from core.errors import InvalidArgument, TooLarge
from core.files import add_file, delete_file, get_file, list_files, store_file

CHUNK_BYTES = 1024 * 1024
MULTIPART_BYTES = 64 * 1024
"""What a multipart body has beside the file."""


def make_router(max_upload_bytes: int) -> APIRouter:
    """The routes of files, with the limit of this server."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    router.add_api_route(
        "",
        create_file,
        methods=["POST"],
        response_model=FileObject,
        max_body_size=max_upload_bytes + MULTIPART_BYTES,
    )
    router.add_api_route("", get_files, methods=["GET"], response_model=Page[FileObject])
    router.add_api_route("/{file_id}", get_one_file, methods=["GET"], response_model=FileObject)
    router.add_api_route("/{file_id}", delete_one_file, methods=["DELETE"], response_model=Deleted)
    content = "/{file_id}/content"
    router.add_api_route(content, get_content, methods=["GET"], response_class=Response)
    router.add_api_route(content, get_content, methods=["HEAD"], include_in_schema=False)
    return router


def create_file(
    services: ServicesDep,
    database: DatabaseDep,
    file: UploadFile,
    purpose: Annotated[str, Form()],
    format: Annotated[FormatName | None, Form()] = None,
    expires_anchor: Annotated[
        Literal["created_at"] | None, Form(alias="expires_after[anchor]")
    ] = None,
    expires_seconds: Annotated[ExpirySeconds | None, Form(alias="expires_after[seconds]")] = None,
) -> FileObject:
    """Upload a file; one to train on is validated row by row before it is accepted."""
    if (expires_anchor is None) != (expires_seconds is None):
        raise InvalidArgument("expires_after needs anchor and seconds.", param="expires_after")
    limit = services.settings.max_upload_bytes
    if file.size is not None and file.size > limit:
        raise TooLarge(f"The file is larger than this server accepts: {limit:,} bytes.")
    new = store_file(
        services.storage,
        chunks_of(file.file),
        purpose=purpose,
        filename=file.filename or "",
        format_name=format,
    )
    with database.write() as session:
        now = database_now(session)
        row = add_file(session, new, now=now, expires_after_seconds=expires_seconds)
    return FileObject.of(row)


def get_files(
    session: ReadSession,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: str | None = None,
) -> Page[FileObject]:
    """List the files, the newest first."""
    files = list_files(
        session, after=after, limit=limit + 1, newest_first=order == "desc", purpose=purpose
    )
    return Page.of([FileObject.of(file) for file in files], limit)


def get_one_file(session: ReadSession, file_id: str) -> FileObject:
    """Retrieve a file."""
    return FileObject.of(get_file(session, file_id))


def delete_one_file(session: WriteSession, services: ServicesDep, file_id: str) -> Deleted:
    """Delete a file that no job in progress needs."""
    delete_file(session, get_file(session, file_id), services.storage)
    return Deleted(id=file_id, object="file")


def get_content(
    request: Request, session: ReadSession, services: ServicesDep, file_id: str
) -> Response:
    """Download a file as it was uploaded."""
    file = get_file(session, file_id)
    return file_response(
        request,
        services.storage,
        key=file.storage_key,
        size=file.size_bytes,
        tag=file.sha256,
        filename=file.filename,
    )


def chunks_of(source: BinaryIO) -> Iterator[bytes]:
    """What was uploaded, in pieces."""
    return iter(lambda: source.read(CHUNK_BYTES), b"")
