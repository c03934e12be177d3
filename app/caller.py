"""Who asks: found once at the door, and seen by every handler."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event, insert
from sqlalchemy.orm import Session, UOWTransaction

from core.access import AuditEntry
from core.db import DEFAULT_PROJECT, Database, clock
from core.errors import Forbidden
from core.keys import Scope

MAX_TARGETS = 20


@dataclass(frozen=True, slots=True)
class Caller:
    """The project in whose name something is asked, and by which key."""

    project_id: str = DEFAULT_PROJECT
    key_id: str | None = None
    """Null for the key of the server's settings, and on a server without keys."""
    scope: Scope = Scope.ADMIN
    session: str | None = None
    """Hash of the browser's session in which it is asked."""


def check_owner(caller: Caller) -> None:
    """Forbidden but for administrators of the default project, who look after all the others."""
    if caller.project_id != DEFAULT_PROJECT:
        raise Forbidden("Only a key of the default project may do this.")


class CallerDatabase:
    """The database as a caller sees it: its own project's rows, and a note of every change."""

    def __init__(self, database: Database, caller: Caller, action: str):
        self._database = database
        self._caller = caller
        self._action = action

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view."""
        with self._database.read(project_id=self._caller.project_id) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that may write, and that notes in the audit log what it changed."""
        with self._database.write(project_id=self._caller.project_id) as session:
            targets: dict[str, None] = {}

            def note(session: Session, context: UOWTransaction) -> None:
                for row in (*session.new, *session.dirty, *session.deleted):
                    _add_target(row, targets)

            event.listen(session, "after_flush", note)
            yield session
            session.flush()
            event.remove(session, "after_flush", note)
            if session.in_transaction():
                self._note(session, list(targets)[:MAX_TARGETS])

    def _note(self, session: Session, targets: list[str]) -> None:
        session.execute(
            insert(AuditEntry).values(
                created_at=clock(session),
                project_id=self._caller.project_id,
                key_id=self._caller.key_id,
                action=self._action[:1000],
                targets=targets,
            )
        )


def _add_target(row: Any, targets: dict[str, None]) -> None:
    if hasattr(row, "project_id"):
        targets[row.id] = None
