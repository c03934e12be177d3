"""Engine, sessions and the only commit. SQLite (WAL) and PostgreSQL behave alike through it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session

from core.errors import DatabaseFull, Unavailable

logger = logging.getLogger(__name__)

BUSY_SECONDS = 10
"""How long a SQLite writer waits for another one."""

CONNECT_SECONDS = 5
POSTGRESQL_FULL = "53100"
SQLITE_FULL = "database or disk is full"

_AFTER_COMMIT = "after_commit"
_PROJECT = "project"
DEFAULT_PROJECT = "default"
"""Where everything is as long as nobody makes another project."""


class Transactions(Protocol):
    """What opens sessions: a database, or one seen by somebody."""

    def write(self) -> AbstractContextManager[Session]:
        """One transaction that may write."""

    def read(self) -> AbstractContextManager[Session]:
        """One consistent view."""


class Database:
    """Transactions over one database. `write()` and `read()` are the only ways to a session."""

    def __init__(self, url: str):
        self.url = url
        self.engine = _make_engine(url)
        self._writing = self.engine.execution_options(writes=True)

    @contextmanager
    def write(self, *, project_id: str = DEFAULT_PROJECT) -> Iterator[Session]:
        """One transaction that may write: committed at the end, rolled back on any error."""
        with self._session(self._writing, project_id) as session:
            yield session
            session.commit()
        for callback in session.info.pop(_AFTER_COMMIT, ()):
            _follow(callback)

    @contextmanager
    def read(self, *, project_id: str = DEFAULT_PROJECT) -> Iterator[Session]:
        """One consistent view; never blocks a writer."""
        with self._session(self.engine, project_id) as session:
            yield session

    def is_alive(self) -> bool:
        """Whether the database answers."""
        try:
            with self.read() as session:
                session.execute(text("SELECT 1"))
        except Unavailable:
            return False
        return True

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _session(self, engine: Engine, project_id: str) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session:
                session.info[_PROJECT] = project_id
                yield session
        except (OperationalError, InterfaceError) as error:
            logger.warning("database: %s", error.orig)
            if _is_full(error.orig):
                raise DatabaseFull from error
            raise Unavailable("The database does not answer. Try again in a moment.") from error
        except TimeoutError as error:
            raise Unavailable("The database is too busy. Try again in a moment.") from error


def after_commit(session: Session, callback: Callable[[], None]) -> None:
    """Call this once the transaction of `session` is committed; never if it is rolled back.

    It may be lost: what is committed is not taken back for a storage or broker that is away.
    """
    session.info.setdefault(_AFTER_COMMIT, []).append(callback)


def _follow(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Unavailable as error:
        logger.warning("not done after a commit: %s", error.message)


def project_of(session: Session) -> str:
    """The project whose rows this session is for, unless a function is told another one."""
    project_id: str = session.info.get(_PROJECT, DEFAULT_PROJECT)
    return project_id


def database_now(session: Session) -> datetime:
    """The clock that leases are measured with: the server's on PostgreSQL, ours on SQLite."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)
    return datetime.now(UTC)


def is_postgresql(session: Session) -> bool:
    """Whether row locks exist; SQLite's writers have the database to themselves."""
    return session.get_bind().dialect.name == "postgresql"


def _is_full(error: BaseException | None) -> bool:
    return getattr(error, "sqlstate", None) == POSTGRESQL_FULL or SQLITE_FULL in str(error)


def _make_engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(
            url,
            pool_pre_ping=True,
            pool_size=10,
            max_overflow=30,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    database = make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=10,
        max_overflow=30,
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling is switched off: it begins late, and a transaction
    # that reads before it writes then fails at once with "database is locked".
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
