"""Databases, storage and settings for all tests.

What is about the database runs on both of them (tests/core, and what is marked `every_database`);
of the other tests that use one each runs on one of the two, always the same, unless
`--every-database` is given.
"""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from core import access, models  # noqa: F401 - they fill the metadata
from core.columns import Base
from core.db import Database
from core.migrate import upgrade
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.servers.leftovers import adopt_orphans, end_leftovers, running
from tests.servers.postgres import create_database, start_postgres

# Idle threads of torch spin for milliseconds by default. Here more threads want to run than there
# are cores, and what they wait for cannot run either. Read when torch is imported, by the tests
# themselves and by scripts that they start; training children get theirs from the worker.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

DATABASES = ("sqlite", "postgresql")
ON_SQLITE = pytest.mark.parametrize("migrated_url", ["sqlite"], indirect=True)
"""For what trains for long and asks the database for nothing that shorter tests do not."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-database", action="store_true", help="each test on each database")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one of each pair of tests that differ in the database alone."""
    if config.getoption("every_database"):
        return
    pairs: dict[str, list[pytest.Item]] = {}
    for item in items:
        name = _without_database(item)
        if name is not None:
            pairs.setdefault(name, []).append(item)
    left_out = set[pytest.Item]()
    for name, pair in pairs.items():
        del pair[zlib.crc32(name.encode()) % len(pair)]
        left_out.update(pair)
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _without_database(item: pytest.Item) -> str | None:
    """The test's name whatever its database is; None where it has none, or is to run on both."""
    place, _, rest = item.nodeid.partition("[")
    parts = rest.removesuffix("]").split("-")
    is_about_it = place.startswith("tests/core/") or item.get_closest_marker("every_database")
    if is_about_it or not set(DATABASES).intersection(parts):
        return None
    return "-".join([place, *(part for part in parts if part not in DATABASES)])


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
