"""Claim, lease, fence, rescue: on both databases."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from core.db import Database
from core.errors import LeaseLost
from core.events import NewEvent, read_events
from core.failure import Failure
from core.jobs import cancel_job, get_job, pause_job, resume_job
from core.models import Attempt, Event, Job, Worker
from core.queue import (
    claim_job,
    fail_attempt,
    heartbeat,
    record,
    rescue_jobs,
    stop_attempt,
    succeed_attempt,
)
from core.states import EventKind, FailureReason, JobStatus, Outcome
from core.waiting import count_claimable, queue_places
from core.workers import drain_worker, undrain_worker
from tests.factories import LEASE_SECONDS, NOW, POLICY, later, make_attempt, make_job

LINE = NewEvent(kind=EventKind.LOG, message="a line")
CRASH = Failure(reason=FailureReason.CHILD_DIED, message="The training process died.")
BAD_DATA = Failure(reason=FailureReason.INVALID_TRAINING_FILE, message="Line 7 is bad.")


def _numbers(session: Session, job_id: str) -> list[int]:
    return [event.seq for event in read_events(session, job_id, after_seq=0)]


def _outcomes(session: Session, job_id: str) -> list[Outcome | None]:
    query = select(Attempt.outcome).where(Attempt.job_id == job_id).order_by(Attempt.number)
    return list(session.scalars(query))


def _claim(session: Session, seconds: float = 0) -> Job | None:
    claimed = claim_job(session, worker="worker-2", now=later(seconds), lease_seconds=LEASE_SECONDS)
    return claimed[0] if claimed else None


def test_an_empty_queue_gives_nothing(session: Session) -> None:
    assert _claim(session) is None


def test_a_drained_worker_claims_nothing_until_it_may_again(session: Session) -> None:
    job = make_job(session, now=NOW)
    session.add(Worker(name="worker-2", heartbeat_at=NOW, slots=1, facts={}))

    drain_worker(session, "worker-2", now=NOW)
    # It reports itself all the while, as a restarted one does, too.
    session.merge(Worker(name="worker-2", heartbeat_at=later(1), slots=1, facts={}))
    place = queue_places(session, [job], now=later(1))[job.id]

    assert _claim(session) is None
    assert place is not None
    assert "worker-2" in place[1]
    undrain_worker(session, "worker-2", ring=list)
    assert _claim(session) is not None


def test_the_oldest_job_is_claimed_first(session: Session) -> None:
    second = make_job(session, now=later(1))
    first = make_job(session, now=NOW)

    claimed = [_claim(session, 2), _claim(session, 2)]

    assert [job.id for job in claimed if job] == [first.id, second.id]


def test_priority_goes_before_age(session: Session) -> None:
    make_job(session, now=NOW)
    urgent = make_job(session, now=later(1), priority=5)

    job = _claim(session, 2)

    assert job is not None
    assert job.id == urgent.id


def test_a_project_without_running_jobs_goes_before_a_busy_one(session: Session) -> None:
    make_attempt(session, project_id="busy")
    make_job(session, now=later(1), project_id="busy")
    fair = make_job(session, now=later(2), project_id="idle")

    job = _claim(session, 3)

    assert job is not None
    assert job.id == fair.id


def test_each_job_is_claimed_once_however_many_ask(database: Database) -> None:
    with database.write() as session:
        expected = {make_job(session).id for _ in range(20)}

    def claim_all(worker: int) -> list[str]:
        mine = []
        while True:
            with database.write() as session:
                claimed = claim_job(
                    session, worker=f"worker-{worker}", now=later(1), lease_seconds=60
                )
            if claimed is None:
                return mine
            mine.append(claimed[0].id)

    with ThreadPoolExecutor(4) as pool:
        claimed = [job_id for ids in pool.map(claim_all, range(4)) for job_id in ids]

    assert sorted(claimed) == sorted(expected)


def test_an_attempt_writes_under_its_lease(session: Session) -> None:
    job, lease = make_attempt(session)

    record(session, lease, [LINE, LINE], now=later(1), step=3)

    assert get_job(session, job.id).step == 3
    assert _numbers(session, job.id) == [1, 2, 3, 4]


def test_a_heartbeat_keeps_the_job_and_tells_of_requests(session: Session) -> None:
    job, lease = make_attempt(session)
    cancel_job(session, job, now=later(50), save=True)

    requests = heartbeat(session, lease, now=later(50), lease_seconds=LEASE_SECONDS)

    assert (requests.cancel, requests.save, requests.pause) == (True, True, False)
    assert rescue_jobs(session, now=later(100), policy=POLICY) == 0


def test_an_expired_lease_gives_the_job_back(session: Session) -> None:
    job, _ = make_attempt(session)

    assert rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY) == 1

    assert get_job(session, job.id).status is JobStatus.QUEUED
    assert _outcomes(session, job.id) == [Outcome.LOST]


def test_finish_after_lease_expired_changes_nothing(session: Session) -> None:
    """A worker that lost its lease cannot move the job."""
    job, lease = make_attempt(session)
    rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY)
    before = _numbers(session, job.id)

    with pytest.raises(LeaseLost):
        succeed_attempt(session, lease, now=later(90), trained_tokens=1, peak_memory_bytes=None)

    assert get_job(session, job.id).status is JobStatus.QUEUED
    assert _numbers(session, job.id) == before


@pytest.mark.parametrize("seconds", [1, 100])
def test_no_write_of_an_older_attempt_gets_through(session: Session, seconds: float) -> None:
    job, old = make_attempt(session)
    rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY)
    assert _claim(session, 62) is not None
    before = _numbers(session, job.id)

    for write in (
        lambda: record(session, old, [LINE], now=later(seconds)),
        lambda: heartbeat(session, old, now=later(seconds), lease_seconds=60),
        lambda: fail_attempt(session, old, CRASH, now=later(seconds), policy=POLICY),
        lambda: stop_attempt(session, old, Outcome.PAUSED, now=later(seconds)),
    ):
        with pytest.raises(LeaseLost):
            write()

    assert _numbers(session, job.id) == before
    assert get_job(session, job.id).attempt == 2


def test_what_the_user_caused_fails_at_once(session: Session) -> None:
    job, lease = make_attempt(session)

    fail_attempt(session, lease, BAD_DATA, now=later(1), policy=POLICY)

    assert job.status is JobStatus.FAILED
    assert job.error == {
        "code": "invalid_training_file",
        "message": "Line 7 is bad.",
        "param": None,
        "suggestion": FailureReason.INVALID_TRAINING_FILE.suggestion,
    }
    assert job.finished_at == later(1)


def test_what_the_machine_caused_is_tried_again_after_a_wait(session: Session) -> None:
    job, lease = make_attempt(session)

    fail_attempt(session, lease, CRASH, now=later(1), policy=POLICY)

    assert job.status is JobStatus.QUEUED
    assert _claim(session, 2) is None
    assert _claim(session, 1 + POLICY.backoff_seconds) is not None


def test_a_poison_job_fails_after_its_attempts_and_harms_nobody(session: Session) -> None:
    poison = make_job(session, now=NOW, max_attempts=2, priority=1)
    good = make_job(session, now=later(1))
    claimed = []
    for second in range(2, 100, 2):
        result = claim_job(session, worker="w", now=later(second), lease_seconds=60)
        if result is None:
            continue
        claimed.append(result[0].id)
        if result[0].id == poison.id:
            fail_attempt(session, result[1], CRASH, now=later(second), policy=POLICY)

    assert claimed == [poison.id, good.id, poison.id]
    assert get_job(session, poison.id).status is JobStatus.FAILED


def test_a_worker_that_leaves_costs_the_job_no_attempt(session: Session) -> None:
    job, lease = make_attempt(session)

    stop_attempt(session, lease, Outcome.RELEASED, now=later(1))

    assert job.status is JobStatus.QUEUED
    assert (job.num_failed_attempts, job.num_lost_attempts) == (0, 0)
    assert _claim(session, 1) is not None


def test_a_job_whose_worker_dies_again_and_again_fails(session: Session) -> None:
    job, _ = make_attempt(session)
    now = 0.0
    while job.status is not JobStatus.FAILED:
        now += LEASE_SECONDS + 1
        rescue_jobs(session, now=later(now), policy=POLICY)
        session.refresh(job)
        now += 600
        _claim(session, now)

    assert job.num_lost_attempts == POLICY.max_lost_attempts + 1
    assert job.error is not None
    assert job.error["code"] == "worker_lost"


def test_a_pause_that_was_asked_for_survives_the_death_of_the_worker(session: Session) -> None:
    job, _ = make_attempt(session)
    pause_job(session, job, now=later(1))

    rescue_jobs(session, now=later(LEASE_SECONDS + 2), policy=POLICY)

    session.refresh(job)
    assert job.status is JobStatus.PAUSED
    assert count_claimable(session, now=later(100)) == 0


def test_a_cancel_that_was_asked_for_survives_the_death_of_the_worker(session: Session) -> None:
    job, _ = make_attempt(session)
    cancel_job(session, job, now=later(1))

    rescue_jobs(session, now=later(LEASE_SECONDS + 2), policy=POLICY)

    session.refresh(job)
    assert job.status is JobStatus.CANCELLED


def test_a_job_that_was_told_to_be_cancelled_never_succeeds(session: Session) -> None:
    job, lease = make_attempt(session)
    cancel_job(session, job, now=later(1))

    succeed_attempt(session, lease, now=later(2), trained_tokens=1, peak_memory_bytes=None)

    assert job.status is JobStatus.CANCELLED
    assert _outcomes(session, job.id) == [Outcome.CANCELLED]


def test_a_resumed_job_waits_in_the_queue_again(session: Session) -> None:
    job, lease = make_attempt(session)
    pause_job(session, job, now=later(1))
    stop_attempt(session, lease, Outcome.PAUSED, now=later(2))

    resume_job(session, job, now=later(3), ring=lambda: None)

    assert job.status is JobStatus.QUEUED
    assert job.pause_requested_at is None


def test_events_have_no_gaps_whoever_writes_them(database: Database) -> None:
    with database.write() as session:
        job, lease = make_attempt(session)

    def write(_: int) -> None:
        with database.write() as session:
            record(session, lease, [LINE, LINE, LINE], now=later(1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(10)))

    with database.read() as session:
        assert _numbers(session, job.id) == list(range(1, 33))
        assert session.get_one(Job, job.id).event_seq == 32


def test_a_rolled_back_write_leaves_no_hole(database: Database) -> None:
    with database.write() as session:
        job, lease = make_attempt(session)
    with suppress(ZeroDivisionError), database.write() as session:
        record(session, lease, [LINE], now=later(1))
        1 / 0  # noqa: B018 - fails on purpose

    with database.write() as session:
        record(session, lease, [LINE], now=later(2))

    with database.read() as session:
        assert _numbers(session, job.id) == [1, 2, 3]
        assert session.get_one(Event, (job.id, 3)).created_at == later(2)


def test_many_waiting_jobs_are_asked_about_as_one(session: Session) -> None:
    jobs = [make_job(session, now=later(number)) for number in range(8)]
    asked: list[str] = []

    def note(*call: Any) -> None:
        asked.append(call[2])

    event.listen(session.connection(), "before_cursor_execute", note)
    queue_places(session, jobs[:1], now=later(10))
    for_one = len(asked)
    places = queue_places(session, jobs, now=later(10))

    assert len(asked) == 2 * for_one
    assert [places[job.id][0] for job in jobs] == list(range(8))
