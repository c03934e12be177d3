"""The tables of who may do what, and who did. Times are UTC; `_at` is always a datetime."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from core.columns import Base


class Project(Base):
    """Whose files, jobs and keys are seen by nobody else. "default" needs no row."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A key of a project; its text is known to its owner alone."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str]
    name: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    """SHA-256 of the key, in hex."""
    beginning: Mapped[str]
    scope: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_api_keys_project", "project_id", "created_at", "id"),)


class BrowserSession(Base):
    """Somebody who signed in on the page with a key."""

    __tablename__ = "browser_sessions"

    hash: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the cookie, in hex."""
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    """Null for the key of the server's settings."""
    expires_at: Mapped[datetime]


class AuditEntry(Base):
    """A change that somebody asked for, in the transaction that made it."""

    __tablename__ = "audit_log"

    # SQLite numbers rows by itself for a plain INTEGER only.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    created_at: Mapped[datetime]
    project_id: Mapped[str]
    key_id: Mapped[str | None]
    """Null for the key of the server's settings, and for servers without keys."""
    action: Mapped[str] = mapped_column(String(1024))
    """Method and path."""
    targets: Mapped[list[Any]]
    """Ids of what was made, changed or deleted."""

    __table_args__ = (Index("ix_audit_log_project", "project_id", "id"),)
