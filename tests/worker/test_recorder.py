"""The recorder writes all in order, waits for a database that is away, and obeys the fence."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy.orm import Session

from core.db import Database
from core.errors import Unavailable
from core.events import NewEvent, read_events
from core.models import Job
from core.queue import Lease, rescue_jobs
from core.states import EventKind
from tests.factories import LEASE_SECONDS, POLICY, later, make_attempt
from worker.recorder import MAX_WAITING, Recorder

pytestmark = pytest.mark.every_database


class UncertainDatabase(Database):
    """A real database whose answers to some commits are lost: they are done nevertheless."""

    lost_answers = 0

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
        if self.lost_answers:
            self.lost_answers -= 1
            raise Unavailable


class FlakyDatabase(Database):
    """A real database that is away for a number of transactions."""

    away = 0

    def write(self):  # type: ignore[override]
        if self.away:
            self.away -= 1
            raise Unavailable
        return super().write()


@pytest.fixture
def running(database: Database) -> tuple[FlakyDatabase, Lease]:
    with database.write() as session:
        _, lease = make_attempt(session)
    return FlakyDatabase(database.url), lease


def _messages(session: Session, lease: Lease) -> list[str]:
    events = read_events(session, lease.job_id, after_seq=2, limit=100_000)
    return [event.message for event in events]


def _line(number: int) -> NewEvent:
    return NewEvent(kind=EventKind.LOG, message=str(number))


def test_everything_is_written_in_order(running) -> None:
    database, lease = running
    recorder = Recorder(database, lease, flush_seconds=0.01)
    for number in range(1200):
        recorder.add(_line(number), step=number)

    assert recorder.barrier(timeout=30)

    recorder.close()
    with database.read() as session:
        assert _messages(session, lease) == [str(number) for number in range(1200)]
        assert session.get_one(Job, lease.job_id).step == 1199
    database.close()


def test_a_database_that_comes_back_finds_all_events(running) -> None:
    database, lease = running
    database.away = 2
    recorder = Recorder(database, lease, flush_seconds=0.01)
    for number in range(10):
        recorder.add(_line(number))

    assert recorder.barrier(timeout=30)

    recorder.close()
    with database.read() as session:
        assert _messages(session, lease) == [str(number) for number in range(10)]
    database.close()


def test_a_commit_whose_answer_was_lost_is_not_written_twice(running) -> None:
    calm, lease = running
    calm.close()
    database = UncertainDatabase(calm.url)
    database.lost_answers = 2
    recorder = Recorder(database, lease, flush_seconds=0.01)
    for number in range(10):
        recorder.add(_line(number), step=number)
    assert recorder.barrier(timeout=30)
    recorder.add(_line(10))

    assert recorder.barrier(timeout=30)

    recorder.close()
    with database.read() as session:
        assert _messages(session, lease) == [str(number) for number in range(11)]
    database.close()


def test_log_lines_beyond_the_limit_are_dropped_and_counted(running) -> None:
    database, lease = running
    database.away = 10**9
    recorder = Recorder(database, lease, flush_seconds=0.01)
    for number in range(MAX_WAITING + 500):
        recorder.add(_line(number))
    recorder.add(NewEvent(kind=EventKind.METRICS, message="kept", data={"step": 1}))

    database.away = 0
    assert recorder.barrier(timeout=60)

    recorder.close()
    with database.read() as session:
        messages = _messages(session, lease)
    assert "kept" in messages
    assert any("log lines were dropped" in message for message in messages)
    database.close()


def test_a_lost_lease_stops_the_recorder(running) -> None:
    database, lease = running
    with database.write() as session:
        rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY)
    recorder = Recorder(database, lease, flush_seconds=0.01)

    recorder.add(_line(1))

    assert not recorder.barrier(timeout=30)
    assert recorder.lost.is_set()
    recorder.close()
    with database.read() as session:
        assert "1" not in _messages(session, lease)
    database.close()
