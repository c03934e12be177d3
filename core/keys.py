"""Projects and their API keys. A key is shown once; only its hash is kept."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from core.access import ApiKey, AuditEntry, BrowserSession, Project
from core.db import DEFAULT_PROJECT, project_of
from core.errors import InvalidArgument, KeyNotFound, ProjectNotFound
from core.ids import new_id

SESSION_HOURS = 12
SHOWN_CHARACTERS = 8
"""Of a key, to tell it from others in a list."""
_ANY_KEY = select(ApiKey.id).limit(1)


class Scope(StrEnum):
    """What a key may do; each may do all of those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: "Scope") -> bool:
        """Whether who has this may do what needs that."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


def create_key(
    session: Session,
    name: str,
    *,
    scope: Scope,
    now: datetime,
    lives: timedelta | None = None,
    project_id: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key of a project, and its text, which nobody can find out later."""
    project_id = project_id or project_of(session)
    if project_id != DEFAULT_PROJECT:
        get_project(session, project_id)
    text = f"ty-{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=new_id("key_"),
        project_id=project_id,
        name=name,
        hash=_hash(text),
        beginning=text[:SHOWN_CHARACTERS],
        scope=scope,
        created_at=now,
        expires_at=now + lives if lives is not None else None,
    )
    session.add(key)
    session.flush()
    return key, text


def has_keys(session: Session) -> bool:
    """Whether there ever was a key: then nobody comes in without one."""
    return session.scalar(_ANY_KEY) is not None


def find_key(session: Session, text: str, *, now: datetime) -> ApiKey | None:
    """The key with this text, if it may be used."""
    key = session.scalar(select(ApiKey).where(ApiKey.hash == _hash(text)))
    return key if key is not None and _is_usable(key, now) else None


def usable_keys(session: Session, key_ids: Collection[str], *, now: datetime) -> set[str]:
    """Those of these keys that may be used."""
    query = select(ApiKey.id).where(ApiKey.id.in_(key_ids), _may_be_used(now))
    return set(session.scalars(query))


def list_keys(session: Session) -> Sequence[ApiKey]:
    """The keys of the project, the newest first; those that ended too."""
    query = select(ApiKey).where(ApiKey.project_id == project_of(session))
    return session.scalars(query.order_by(ApiKey.created_at.desc(), ApiKey.id.desc())).all()


def revoke_key(session: Session, key_id: str, *, now: datetime) -> ApiKey:
    """End a key at once, and the browser sessions that began with it."""
    query = select(ApiKey).where(ApiKey.id == key_id, ApiKey.project_id == project_of(session))
    key = session.scalar(query)
    if key is None:
        raise KeyNotFound(f"No such key: {key_id}", param="key_id")
    key.revoked_at = key.revoked_at or now
    return key


def create_project(session: Session, project_id: str, *, now: datetime) -> Project:
    """A new project, which sees nothing of the others."""
    if project_id == DEFAULT_PROJECT or session.get(Project, project_id) is not None:
        raise InvalidArgument(f"There is a project {project_id!r} already.", param="id")
    project = Project(id=project_id, created_at=now)
    session.add(project)
    session.flush()
    return project


def get_project(session: Session, project_id: str) -> Project:
    """The project with this id, or ProjectNotFound."""
    project = session.get(Project, project_id)
    if project is None:
        raise ProjectNotFound(f"No such project: {project_id}", param="project_id")
    return project


def list_projects(session: Session) -> Sequence[Project]:
    """All projects beside the default one, by name."""
    return session.scalars(select(Project).order_by(Project.id)).all()


def begin_session(session: Session, key: ApiKey | None, *, now: datetime) -> str:
    """A browser's session; the text of its cookie. No key: that of the server's settings."""
    text = secrets.token_urlsafe(32)
    ends = now + timedelta(hours=SESSION_HOURS)
    session.add(BrowserSession(hash=_hash(text), key_id=key.id if key else None, expires_at=ends))
    return text


def find_session(
    session: Session, text: str, *, now: datetime
) -> tuple[BrowserSession, ApiKey | None] | None:
    """The session of a cookie with the key that it began with, if both may be used."""
    found = session.get(BrowserSession, _hash(text))
    if found is None or found.expires_at <= now:
        return None
    if found.key_id is None:
        return found, None
    key = session.get_one(ApiKey, found.key_id)
    return (found, key) if _is_usable(key, now) else None


def usable_sessions(session: Session, hashes: Collection[str], *, now: datetime) -> set[str]:
    """Those of these browsers' sessions, by their hashes, that have not ended by themselves."""
    table = BrowserSession
    query = select(table.hash).where(table.hash.in_(hashes), table.expires_at > now)
    return set(session.scalars(query))


def end_session(session: Session, text: str) -> None:
    """Sign out."""
    found = session.get(BrowserSession, _hash(text))
    if found is not None:
        session.delete(found)


def list_audit(
    session: Session, *, after: int | None, limit: int, is_everything: bool
) -> Sequence[AuditEntry]:
    """What was changed by whom, the newest first: of this project, or of all."""
    query = select(AuditEntry)
    if not is_everything:
        query = query.where(AuditEntry.project_id == project_of(session))
    if after is not None:
        query = query.where(AuditEntry.id < after)
    return session.scalars(query.order_by(AuditEntry.id.desc()).limit(limit)).all()


def _is_usable(key: ApiKey, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _may_be_used(now: datetime) -> ColumnElement[bool]:
    return ApiKey.revoked_at.is_(None) & or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)


def _hash(text: str) -> str:
    # A key has 256 random bits: there is nothing to guess that a slow hash would protect.
    return hashlib.sha256(text.encode()).hexdigest()
