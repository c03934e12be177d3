"""Transactions: who commits, what follows a commit, and what a dead database looks like."""

import threading
from contextlib import suppress

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from core.db import Database, after_commit, database_now
from core.errors import Unavailable
from core.jobs import list_jobs
from core.migrate import downgrade, is_current, upgrade
from core.models import Base
from tests.factories import make_job


def test_after_commit_runs_only_when_committed(database: Database) -> None:
    rung: list[str] = []

    with database.write() as session:
        after_commit(session, lambda: rung.append("committed"))
        assert rung == []
    with suppress(ZeroDivisionError), database.write() as session:
        after_commit(session, lambda: rung.append("rolled back"))
        1 / 0  # noqa: B018 - fails on purpose

    assert rung == ["committed"]


def test_writers_that_read_first_wait_for_each_other(database: Database) -> None:
    """SQLite refuses such transactions at once unless they begin as writers."""
    errors: list[Exception] = []

    def submit() -> None:
        try:
            for _ in range(10):
                with database.write() as session:
                    list_jobs(session)
                    make_job(session)
        except Unavailable as error:
            errors.append(error)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with database.read() as session:
        assert len(list_jobs(session, limit=100)) == 40


def test_the_clock_of_the_database_is_utc(database: Database) -> None:
    with database.read() as session:
        assert database_now(session).utcoffset().total_seconds() == 0


def test_a_database_that_is_away_is_unavailable() -> None:
    database = Database("postgresql+psycopg://nobody:nothing@127.0.0.1:1/none")

    with pytest.raises(Unavailable), database.read() as session:
        database_now(session)
    assert not database.is_alive()


def test_the_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrations_go_down_and_up_again(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    upgrade(database)
    assert is_current(database)

    downgrade(database, "base")
    assert not is_current(database)
    upgrade(database)

    assert is_current(database)
    database.close()
