"""Keys, projects, the audit log, and the page's sign-in."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from app.body import JsonObject
from app.caller import check_owner
from app.security import COOKIE, SESSION_PATH, Gate, cookie_of
from app.services import CallerDep, ReadSession, ServicesDep, WriteSession
from core.access import ApiKey, AuditEntry, Project
from core.db import database_now
from core.errors import Unauthorized
from core.keys import (
    SESSION_HOURS,
    Scope,
    begin_session,
    create_key,
    create_project,
    end_session,
    list_audit,
    list_keys,
    list_projects,
    revoke_key,
)
from core.spec import checked

router = APIRouter(tags=["keys"])

Name = Annotated[str, Field(min_length=1, max_length=100)]
ProjectName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
KeyId = Annotated[str, Path(max_length=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class KeyBody(_Strict):
    """A key to be made."""

    name: Name
    scope: Scope = Scope.WRITE
    project: ProjectName | None = None
    """Default: the project of the key that asks."""
    expires_in_days: Annotated[float, Field(gt=0, le=3650)] | None = None


class ProjectBody(_Strict):
    """A project to be made."""

    id: ProjectName


class SignInBody(_Strict):
    """What the page asks for."""

    key: Annotated[str, Field(min_length=1, max_length=1000)]


class KeyObject(BaseModel):
    """A key, without its text."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    project: str
    scope: Scope
    beginning: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    @classmethod
    def of(cls, key: ApiKey, **more: Any) -> "KeyObject":
        """A row."""
        return cls(
            id=key.id,
            name=key.name,
            project=key.project_id,
            scope=Scope(key.scope),
            beginning=key.beginning,
            created_at=int(key.created_at.timestamp()),
            expires_at=_seconds(key.expires_at),
            revoked_at=_seconds(key.revoked_at),
            **more,
        )


class NewKey(KeyObject):
    """A key with its text, which is shown once."""

    key: str


class ProjectObject(BaseModel):
    """A project."""

    id: str
    object: Literal["project"] = "project"
    created_at: int | None

    @classmethod
    def of(cls, project: Project) -> "ProjectObject":
        """A row."""
        return cls(id=project.id, created_at=int(project.created_at.timestamp()))


class AuditObject(BaseModel):
    """A change that somebody asked for."""

    id: int
    object: Literal["audit_entry"] = "audit_entry"
    created_at: int
    project: str
    key_id: str | None
    action: str
    targets: list[str]

    @classmethod
    def of(cls, entry: AuditEntry) -> "AuditObject":
        """A row."""
        return cls(
            id=entry.id,
            created_at=int(entry.created_at.timestamp()),
            project=entry.project_id,
            key_id=entry.key_id,
            action=entry.action,
            targets=entry.targets,
        )


class KeyList(BaseModel):
    """All keys of a project."""

    object: Literal["list"] = "list"
    data: list[KeyObject]


class ProjectList(BaseModel):
    """All projects."""

    object: Literal["list"] = "list"
    data: list[ProjectObject]


class AuditPage(BaseModel):
    """Some entries of the audit log; `after` the last one there are more."""

    object: Literal["list"] = "list"
    data: list[AuditObject]
    has_more: bool


def _body(model: type[BaseModel]) -> dict[str, Any]:
    schema = {"schema": model.model_json_schema()}
    return {"requestBody": {"required": True, "content": {"application/json": schema}}}


@router.post("/v1/keys", openapi_extra=_body(KeyBody))
def create_one_key(session: WriteSession, caller: CallerDep, body: JsonObject) -> NewKey:
    """Make a key; its text is in this answer and nowhere else."""
    sent = checked(KeyBody, body)
    if sent.project not in (None, caller.project_id):
        check_owner(caller)
    days = sent.expires_in_days
    key, text = create_key(
        session,
        sent.name,
        scope=sent.scope,
        now=database_now(session),
        lives=timedelta(days=days) if days is not None else None,
        project_id=sent.project,
    )
    return NewKey(**KeyObject.of(key).model_dump(), key=text)


@router.get("/v1/keys")
def get_keys(session: ReadSession) -> KeyList:
    """List the keys of this project, the newest first."""
    return KeyList(data=[KeyObject.of(key) for key in list_keys(session)])


@router.delete("/v1/keys/{key_id}")
def revoke_one_key(session: WriteSession, key_id: KeyId) -> KeyObject:
    """Revoke a key: from now on it is not known here."""
    return KeyObject.of(revoke_key(session, key_id, now=database_now(session)))


@router.post("/v1/projects", openapi_extra=_body(ProjectBody))
def create_one_project(session: WriteSession, caller: CallerDep, body: JsonObject) -> ProjectObject:
    """Make a project, which sees nothing of the others; its first key names it."""
    check_owner(caller)
    sent = checked(ProjectBody, body)
    return ProjectObject.of(create_project(session, sent.id, now=database_now(session)))


@router.get("/v1/projects")
def get_projects(session: ReadSession, caller: CallerDep) -> ProjectList:
    """List the projects beside the default one."""
    check_owner(caller)
    return ProjectList(data=[ProjectObject.of(project) for project in list_projects(session)])


@router.get("/v1/audit")
def get_audit(
    session: ReadSession,
    caller: CallerDep,
    after: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    all_projects: bool = False,
) -> AuditPage:
    """What was changed, when, and with which key, the newest first."""
    if all_projects:
        check_owner(caller)
    found = list_audit(session, after=after, limit=limit + 1, is_everything=all_projects)
    data = [AuditObject.of(entry) for entry in found[:limit]]
    return AuditPage(data=data, has_more=len(found) > limit)


@router.post(SESSION_PATH, status_code=204, openapi_extra=_body(SignInBody))
def sign_in(request: Request, services: ServicesDep, body: JsonObject) -> Response:
    """Exchange a key for a cookie that no script can read."""
    found = Gate(services.database, services.settings).find(checked(SignInBody, body).key.strip())
    if found is None:
        raise Unauthorized("This API key is not known here.")
    with services.database.write() as session:
        text = begin_session(session, found[1], now=database_now(session))
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        text,
        max_age=SESSION_HOURS * 3600,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.delete(SESSION_PATH, status_code=204)
def sign_out(request: Request, services: ServicesDep) -> Response:
    """Forget the cookie."""
    text = cookie_of(request.headers)
    if text is not None:
        with services.database.write() as session:
            end_session(session, text)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


def _seconds(time: datetime | None) -> int | None:
    return int(time.timestamp()) if time is not None else None
