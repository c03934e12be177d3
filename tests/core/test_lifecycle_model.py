"""Any order of what users, workers and accidents do, checked against the promises after each step.

The real service layer on a real database; the clock is a number. Rules lean towards danger:
workers that wake up with an old lease, leases that are lost and taken again, doubled ends.
"""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, publish_checkpoint
from core.db import Database
from core.errors import InvalidState, LeaseLost
from core.events import NewEvent, read_events
from core.failure import Failure
from core.jobs import cancel_job, get_job, pause_job, resume_job
from core.migrate import upgrade
from core.models import Attempt, Checkpoint, Job
from core.queue import (
    Lease,
    claim_job,
    fail_attempt,
    heartbeat,
    record,
    rescue_jobs,
    stop_attempt,
    succeed_attempt,
)
from core.states import EventKind, FailureReason, JobStatus, Outcome
from tests.factories import LEASE_SECONDS, NOW, POLICY, make_job

ENTRY = ManifestEntry("model.safetensors", 1, "0" * 64, "weights")
REASONS = (FailureReason.CHILD_DIED, FailureReason.INVALID_MODEL, FailureReason.OUT_OF_MEMORY)
ENDED = {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}


class Lifecycle(RuleBasedStateMachine):
    """Jobs under everything that can happen to them."""

    jobs: Bundle[str] = Bundle("jobs")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = Database(f"sqlite:///{Path(self.folder.name) / 'model.db'}")
        upgrade(self.database)
        self.now = NOW
        self.submitted: set[str] = set()
        self.ended: dict[str, tuple[JobStatus, Any]] = {}
        self.cancelled: set[str] = set()
        self.newest: dict[str, int] = {}

    def teardown(self) -> None:
        """One healthy worker and time bring every job to an end."""
        self._finish_all()
        self.database.close()
        self.folder.cleanup()

    @rule(target=jobs, attempts=st.integers(1, 3))
    def submit(self, attempts: int) -> str:
        with self.database.write() as session:
            job_id = make_job(session, now=self.now, max_attempts=attempts).id
        self.submitted.add(job_id)
        return job_id

    @rule(target=leases, worker=st.sampled_from(["a", "b"]))
    def claim(self, worker: str) -> Lease:
        with self.database.write() as session:
            claimed = claim_job(session, worker=worker, now=self.now, lease_seconds=LEASE_SECONDS)
        if claimed is None:
            return Lease("none", 0, "")
        self.newest[claimed[0].id] = claimed[1].attempt
        return claimed[1]

    @rule(seconds=st.sampled_from([1, 10, 29, 31, 61, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def rescue(self) -> None:
        with self.database.write() as session:
            rescue_jobs(session, now=self.now, policy=POLICY)

    @rule(target=leases, lease=leases)
    def lose_lease_and_claim_again(self, lease: Lease) -> Lease:
        self.now += timedelta(seconds=LEASE_SECONDS + 1)
        self.rescue()
        self.now += timedelta(seconds=700)
        return self.claim("c")

    @rule(lease=leases)
    def step(self, lease: Lease) -> None:
        line = NewEvent(kind=EventKind.METRICS, message="", data={"step": 1})
        self._write(lease, lambda session: record(session, lease, [line], now=self.now, step=1))

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        self._write(
            lease,
            lambda session: heartbeat(session, lease, now=self.now, lease_seconds=LEASE_SECONDS),
        )

    @rule(lease=leases, step=st.integers(1, 3))
    def publish(self, lease: Lease, step: int) -> None:
        self._write(
            lease,
            lambda session: publish_checkpoint(
                session, lease, step=step, manifest=[ENTRY], metrics={}, now=self.now
            ),
        )

    @rule(lease=leases)
    def succeed(self, lease: Lease) -> None:
        self._write(
            lease,
            lambda session: succeed_attempt(
                session, lease, now=self.now, trained_tokens=1, peak_memory_bytes=1
            ),
        )

    @rule(lease=leases, reason=st.sampled_from(REASONS))
    def fail(self, lease: Lease, reason: FailureReason) -> None:
        failure = Failure(reason=reason, message="failed")
        self._write(
            lease,
            lambda session: fail_attempt(session, lease, failure, now=self.now, policy=POLICY),
        )

    @rule(lease=leases, outcome=st.sampled_from([Outcome.RELEASED, Outcome.PAUSED]))
    def stop(self, lease: Lease, outcome: Outcome) -> None:
        self._write(lease, lambda session: stop_attempt(session, lease, outcome, now=self.now))

    @rule(job_id=jobs, action=st.sampled_from(["cancel", "pause", "resume"]))
    def ask(self, job_id: str, action: str) -> None:
        try:
            with self.database.write() as session:
                job = get_job(session, job_id)
                if action == "cancel":
                    cancel_job(session, job, now=self.now)
                    self.cancelled.add(job_id)
                elif action == "pause":
                    pause_job(session, job, now=self.now)
                else:
                    resume_job(session, job, now=self.now, ring=lambda: None)
        except InvalidState:
            return

    @invariant()
    def no_job_is_lost(self) -> None:
        with self.database.read() as session:
            assert set(session.scalars(select(Job.id))) == self.submitted

    @invariant()
    def the_end_is_the_end(self) -> None:
        with self.database.read() as session:
            for job in session.scalars(select(Job)):
                state = (job.status, job.finished_at, job.event_seq)
                assert self.ended.get(job.id, state) == state
                if job.status in ENDED:
                    self.ended[job.id] = state
                    assert job.lease_token is None
                    assert job.finished_at is not None

    @invariant()
    def a_cancel_that_was_accepted_stands(self) -> None:
        with self.database.read() as session:
            for job_id in self.cancelled:
                assert get_job(session, job_id).status is not JobStatus.SUCCEEDED

    @invariant()
    def events_have_no_gaps_and_tokens_never_go_back(self) -> None:
        with self.database.read() as session:
            for job in session.scalars(select(Job)):
                events = read_events(session, job.id, after_seq=0, limit=10_000)
                assert [event.seq for event in events] == list(range(1, job.event_seq + 1))
                attempts = [event.attempt for event in events]
                assert attempts == sorted(attempts)
                if job.status in ENDED:
                    assert events[-1].kind is EventKind.STATE

    @invariant()
    def only_the_newest_attempt_is_open(self) -> None:
        with self.database.read() as session:
            for job in session.scalars(select(Job)):
                query = select(Attempt).where(Attempt.job_id == job.id)
                open_attempts = [
                    attempt.number for attempt in session.scalars(query) if attempt.outcome is None
                ]
                running = job.status is JobStatus.RUNNING
                assert open_attempts == ([job.attempt] if running else [])

    @invariant()
    def the_effective_batch_never_changes(self) -> None:
        with self.database.read() as session:
            for training in session.scalars(select(Job.training)):
                batch = training.get("per_device_train_batch_size", 8)
                assert batch * training.get("gradient_accumulation_steps", 1) == 8

    @invariant()
    def attempts_are_bounded(self) -> None:
        with self.database.read() as session:
            for job in session.scalars(select(Job)):
                assert job.num_failed_attempts <= job.max_attempts
                assert job.num_lost_attempts <= POLICY.max_lost_attempts + 1

    def _write(self, lease: Lease, write: Callable[[Session], object]) -> None:
        """A write gets through if and only if the lease is that of the newest attempt, and open."""
        with self.database.read() as session:
            job = session.get(Job, lease.job_id)
            holds = job is not None and job.lease_token == lease.token
            before = job.event_seq if job else 0
            checkpoints = set(session.scalars(select(Checkpoint.id)))
        try:
            with self.database.write() as session:
                write(session)
        except LeaseLost:
            assert not holds
            with self.database.read() as session:
                job = session.get(Job, lease.job_id)
                assert (job.event_seq if job else 0) == before
                assert set(session.scalars(select(Checkpoint.id))) == checkpoints
        else:
            assert holds
            assert self.newest[lease.job_id] == lease.attempt

    def _finish_all(self) -> None:
        for _ in range(400):
            self.now += timedelta(seconds=700)
            with self.database.write() as session:
                rescue_jobs(session, now=self.now, policy=POLICY)
                paused = session.scalars(select(Job).where(Job.status == JobStatus.PAUSED))
                for job in list(paused):
                    resume_job(session, job, now=self.now, ring=lambda: None)
            lease = self.claim("healthy")
            if lease.attempt:
                self.succeed(lease)
            with self.database.read() as session:
                if all(status in ENDED for status in session.scalars(select(Job.status))):
                    return
        raise AssertionError("a job never ended")


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
