"""Databases, storage and settings for all tests. Each database test runs on both databases."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.db import Database
from core.migrate import upgrade
from core.models import Base
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.servers.leftovers import adopt_orphans, end_leftovers, running
from tests.servers.postgres import create_database, start_postgres

DATABASES = ("sqlite", "postgresql")
ON_SQLITE = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
"""For what trains for long and asks the database for nothing that shorter tests do not."""


def missing(what: str) -> None:
    """Skip for want of something that this machine lacks; on CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must not skip")
    pytest.skip(f"{what} is missing")


@pytest.fixture(scope="session", autouse=True)
def orphans() -> None:
    """Whatever loses its parent during the tests is found below us, not below init."""
    adopt_orphans()


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(orphans: None) -> Iterator[None]:
    """Fails a module whose tests leave a process behind."""
    known = running()
    yield
    left = end_leftovers(known)
    assert not left, f"processes left behind: {left}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server of our own, stopped at the end."""
    # Not below pytest's own folder, which the next run of pytest closes to the server's user.
    with (
        TemporaryDirectory(prefix="tuneyard-postgres-", ignore_cleanup_errors=True) as folder,
        start_postgres(Path(folder) / "data") as url,
    ):
        yield url


@pytest.fixture(scope="session", params=DATABASES)
def migrated_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of an empty database at the newest schema, made by the migrations."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('database') / 'tuneyard.db'}"
    else:
        url = create_database(request.getfixturevalue("postgres_server"), "suite")
    database = Database(url)
    upgrade(database)
    database.close()
    return url


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A database whose tables are emptied after the test."""
    database = Database(migrated_url)
    yield database
    with database.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))
    database.close()


@pytest.fixture
def session(migrated_url: str) -> Iterator[Session]:
    """A session whose writes are rolled back after the test."""
    database = Database(migrated_url)
    engine = database.engine.execution_options(writes=True)
    with engine.connect() as connection, connection.begin() as transaction:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            yield session
        transaction.rollback()
    database.close()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Local storage in a folder of the test's own."""
    return open_storage(f"file://{tmp_path / 'storage'}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings as an empty environment gives them, at home in the test's own folder."""
    return Settings(TUNEYARD_HOME=tmp_path)
