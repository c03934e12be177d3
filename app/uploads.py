"""How uploads look to clients."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import FileObject
from core.models import File, Upload, UploadPart

MIN_EXPIRY_SECONDS = 3600
MAX_EXPIRY_SECONDS = 30 * 24 * 3600

ExpirySeconds = Annotated[int, Field(ge=MIN_EXPIRY_SECONDS, le=MAX_EXPIRY_SECONDS)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ExpiresAfter(_Strict):
    """When a file is deleted by itself."""

    anchor: Literal["created_at"]
    seconds: ExpirySeconds


class UploadBody(_Strict):
    """A file that comes in parts."""

    filename: Annotated[str, Field(min_length=1, max_length=255)]
    purpose: str
    bytes: Annotated[int, Field(ge=1)]
    mime_type: Annotated[str, Field(max_length=255)]
    expires_after: ExpiresAfter | None = None


class CompleteBody(_Strict):
    """The parts in the order of the file."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    md5: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{32}$")] | None = None


class PartObject(BaseModel):
    """OpenAI's part of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str

    @classmethod
    def of(cls, part: UploadPart) -> "PartObject":
        """The part as clients see it."""
        created_at = int(part.created_at.timestamp())
        return cls(id=part.id, created_at=created_at, upload_id=part.upload_id)


class UploadObject(BaseModel):
    """OpenAI's upload, with the file that it became."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: str
    file: FileObject | None

    @classmethod
    def of(cls, upload: Upload, file: File | None = None) -> "UploadObject":
        """The upload as clients see it."""
        return cls(
            id=upload.id,
            bytes=upload.size_bytes,
            created_at=int(upload.created_at.timestamp()),
            expires_at=int(upload.expires_at.timestamp()),
            filename=upload.filename,
            purpose=upload.purpose,
            status=upload.status,
            file=FileObject.of(file) if file is not None else None,
        )
