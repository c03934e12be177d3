"""OpenAI's checkpoint permissions: who else may use what a job of this project has learned."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.body import JsonObject
from app.schemas import Deleted, Page, PermissionObject
from app.services import ReadSession, WriteSession
from core.catalog import own_checkpoint
from core.permissions import get_permission, grant, list_permissions
from core.spec import checked

router = APIRouter(
    prefix="/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions", tags=["checkpoints"]
)

ProjectId = Annotated[str, Field(min_length=1, max_length=255)]


class GrantBody(BaseModel):
    """The projects that may use a checkpoint."""

    model_config = ConfigDict(extra="forbid", strict=True)

    project_ids: Annotated[list[ProjectId], Field(min_length=1, max_length=100)]


_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": GrantBody.model_json_schema()}},
    }
}


@router.post("", openapi_extra=_BODY)
def create_permissions(
    session: WriteSession, checkpoint: str, body: JsonObject
) -> Page[PermissionObject]:
    """Let projects use a checkpoint, named as `jobs/<job id>.step-N`."""
    project_ids = checked(GrantBody, body).project_ids
    found = grant(session, own_checkpoint(session, checkpoint), project_ids)
    items = [PermissionObject.of(permission) for permission in found]
    return Page.of(items, len(items))


@router.get("")
def get_permissions(
    session: ReadSession,
    checkpoint: str,
    project_id: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    order: Literal["ascending", "descending"] = "descending",
) -> Page[PermissionObject]:
    """List who else may use a checkpoint."""
    found = list_permissions(
        session,
        own_checkpoint(session, checkpoint),
        project_id=project_id,
        after=after,
        limit=limit + 1,
        newest_first=order == "descending",
    )
    return Page.of([PermissionObject.of(permission) for permission in found], limit)


@router.delete("/{permission_id}")
def delete_permission(session: WriteSession, checkpoint: str, permission_id: str) -> Deleted:
    """Take a permission back; what was trained with it stays."""
    session.delete(get_permission(session, own_checkpoint(session, checkpoint), permission_id))
    return Deleted(id=permission_id, object="checkpoint.permission")
