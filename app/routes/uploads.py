"""OpenAI's uploads: files in parts."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response, UploadFile
from sqlalchemy.orm import Session

from app.body import JsonObject
from app.once import OnceDep
from app.routes.files import MULTIPART_BYTES, chunks_of
from app.services import DatabaseDep, ServicesDep, WriteSession
from app.uploads import CompleteBody, PartObject, UploadBody, UploadObject
from core.errors import TooLarge
from core.spec import checked
from core.uploads import add_part, cancel_upload, complete_upload, create_upload, get_upload

PART_BYTES = 64 * 1024**2


def _body(model: type[UploadBody] | type[CompleteBody]) -> dict[str, Any]:
    schema = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


router = APIRouter(prefix="/v1/uploads", tags=["files"])


@router.post("", response_model=UploadObject, openapi_extra=_body(UploadBody))
def create(services: ServicesDep, body: JsonObject, once: OnceDep) -> Response:
    """Begin a file that comes in parts; it is to be completed within an hour."""
    sent = checked(UploadBody, body)

    def make(session: Session, _now: datetime) -> UploadObject:
        upload = create_upload(
            session,
            filename=sent.filename,
            purpose=sent.purpose,
            mime_type=sent.mime_type,
            size_bytes=sent.bytes,
            max_bytes=services.settings.max_upload_bytes,
            expires_after_seconds=sent.expires_after.seconds if sent.expires_after else None,
        )
        return UploadObject.of(upload)

    return once.answer(make)


@router.post("/{upload_id}/parts", max_body_size=PART_BYTES + MULTIPART_BYTES)
def create_part(
    services: ServicesDep, database: DatabaseDep, upload_id: str, data: UploadFile
) -> PartObject:
    """Add a part of at most 64 MiB; parts may come in any order, and at the same time."""
    size = data.size or 0
    if size > PART_BYTES:
        raise TooLarge(f"A part may have {PART_BYTES:,} bytes.")
    chunks = chunks_of(data.file)
    part = add_part(database, services.storage, upload_id, chunks, size=size)
    return PartObject.of(part)


@router.post("/{upload_id}/complete", openapi_extra=_body(CompleteBody))
def complete(
    services: ServicesDep, database: DatabaseDep, upload_id: str, body: JsonObject
) -> UploadObject:
    """Make the file; one to train on is validated row by row before it is accepted."""
    sent = checked(CompleteBody, body)
    upload, file = complete_upload(
        database, services.storage, upload_id, part_ids=sent.part_ids, md5=sent.md5
    )
    return UploadObject.of(upload, file)


@router.post("/{upload_id}/cancel")
def cancel(session: WriteSession, services: ServicesDep, upload_id: str) -> UploadObject:
    """Forget the parts; nothing can be added any more."""
    upload = get_upload(session, upload_id, lock=True)
    cancel_upload(session, services.storage, upload)
    return UploadObject.of(upload)
