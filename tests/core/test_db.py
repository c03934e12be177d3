"""Transactions: who commits, what follows a commit, and what a dead database looks like."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, select, text

from core import access, models  # noqa: F401 - they fill the metadata
from core.columns import Base
from core.db import Database, after_commit, began_at, clock, database_now
from core.errors import DatabaseFull, Unavailable
from core.jobs import list_jobs
from core.migrate import downgrade, is_current, upgrade
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


def test_what_is_committed_stays_when_what_follows_fails(database: Database) -> None:
    """A client must not be told that a deletion failed when only its bytes are still there."""

    def fail() -> None:
        raise Unavailable("The storage is away.")

    done: list[str] = []
    with database.write() as session:
        job = make_job(session)
        after_commit(session, fail)
        after_commit(session, lambda: done.append("next"))

    assert done == ["next"]
    with database.read() as session:
        assert [found.id for found in list_jobs(session)] == [job.id]


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


def test_a_writer_waits_in_this_process_for_its_turn_on_sqlite(tmp_path: Path) -> None:
    """In SQLite it would sleep, and find out too late that the other one has ended."""
    database = Database(f"sqlite:///{tmp_path / 'tuneyard.db'}")
    begun: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *told: begun.append(str(told[2])))
    counts: list[int] = []

    def write() -> None:
        with database.write() as session:
            session.execute(text("SELECT 1"))

    second = threading.Thread(target=write)
    with database.write() as session:
        session.execute(text("SELECT 1"))
        second.start()
        _wait_until(lambda: database.engine.pool.checkedout() == 2)
        second.join(0.05)
        counts.append(begun.count("BEGIN IMMEDIATE"))
    second.join()

    assert [*counts, begun.count("BEGIN IMMEDIATE")] == [1, 2]
    database.close()


def test_a_writer_whose_connection_broke_leaves_its_turn(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tuneyard.db'}")
    with suppress(ZeroDivisionError), database.write() as session:
        session.connection().invalidate()
        1 / 0  # noqa: B018 - fails on purpose

    with database.write() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    database.close()


def _wait_until(is_so: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not is_so():
        pause.wait(0.001)


def test_a_part_of_a_statement_tells_the_time(database: Database) -> None:
    with database.read() as session:
        before = database_now(session)
        told = session.execute(select(clock(session))).scalar_one()
        after = database_now(session)

        assert before <= told <= after
        assert began_at(session) <= before


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


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's."""
    database = Database(f"sqlite:///{tmp_path / 'tuneyard.db'}")
    upgrade(database)
    with database.write() as session:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
    event.listen(
        database.engine,
        "checkout",
        lambda connection, *_: connection.execute(f"PRAGMA max_page_count={pages + 20}"),
    )
    made: list[str] = []

    with pytest.raises(DatabaseFull, match="disk of the database is full"):
        fill(database, made)

    assert made
    with database.read() as session:
        assert {job.id for job in list_jobs(session, limit=20_000)} == set(made)
        assert session.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
    database.close()


def fill(database: Database, made: list[str]) -> None:
    """Make jobs until it fails; `made` are those that were committed."""
    while True:
        with database.write() as session:
            job = make_job(session, metadata={"padding": "x" * 500})
        made.append(job.id)
