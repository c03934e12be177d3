"""Engine, sessions and the only commit. SQLite (WAL) and PostgreSQL behave alike through it."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from core.columns import UtcDateTime
from core.errors import DatabaseFull, Unavailable

logger = logging.getLogger(__name__)

BUSY_SECONDS = 10
"""How long a SQLite writer waits for another one."""

CONNECT_SECONDS = 5
CONNECTIONS = 40
"""Of one process, made when they are needed and kept: as many as the API has threads. One that is
made for a moment of many requests and closed again costs more than what is asked through it."""
POSTGRESQL_FULL = "53100"
SQLITE_FULL = "database or disk is full"

_AFTER_COMMIT = "after_commit"
_PROJECT = "project"
_OPENED_AT = "opened_at"
_TURN = "turn"
_NOW = select(func.clock_timestamp())
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
                session.info[_OPENED_AT] = datetime.now(UTC)
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
    if is_postgresql(session):
        now: datetime = session.execute(_NOW).scalar_one()
        return now.astimezone(UTC)
    return datetime.now(UTC)


def clock(session: Session) -> ColumnElement[datetime]:
    """The same as a part of a statement, which then needs no other one to ask for it."""
    if is_postgresql(session):
        return func.clock_timestamp(type_=UtcDateTime())
    return literal(datetime.now(UTC), UtcDateTime())


def began_at(session: Session) -> datetime:
    """When the transaction of `session` began, or began to wait for its turn, by that clock."""
    if is_postgresql(session):
        return session.execute(select(func.transaction_timestamp(type_=UtcDateTime()))).scalar_one()
    opened_at: datetime = session.info[_OPENED_AT]
    return opened_at


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
            pool_size=CONNECTIONS,
            max_overflow=0,
            connect_args={"connect_timeout": CONNECT_SECONDS},
        )
    database = make_url(url).database
    if database:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=CONNECTIONS,
        max_overflow=0,
    )
    event.listen(engine, "connect", _configure_sqlite)
    turns = _Turns()
    event.listen(engine, "begin", turns.begin)
    event.listen(engine, "checkin", turns.leave)
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


class _Turns:
    """Begins transactions on SQLite: those that write one after the other.

    SQLite has no queue. Whoever finds the file taken looks again after a while, at last only
    every 100 ms: writers of one process need not wait for what was free long ago.
    """

    def __init__(self) -> None:
        self._free = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """Begin a transaction; TimeoutError when no turn came."""
        if not connection.get_execution_options().get("writes", False):
            connection.exec_driver_sql("BEGIN")
            return
        # Unlike `info`, this outlives a connection that breaks.
        held = connection.connection.record_info
        assert held is not None, "connections of the pool have it"
        # Who writes one transaction after the other on one connection keeps the turn.
        if not held.get(_TURN, False):
            if not self._free.acquire(timeout=BUSY_SECONDS):
                raise TimeoutError("another transaction of this process did not end")
            held[_TURN] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def leave(self, _connection: object, record: ConnectionPoolEntry) -> None:
        """Let the next one write: the connection of this one goes back to the pool."""
        held = record.record_info
        if held is not None and held.pop(_TURN, False):
            self._free.release()
