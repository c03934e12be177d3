"""The checker finds what it is there to find: each forged history is caught."""

from collections.abc import Callable

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, publish_checkpoint
from core.db import Database
from core.events import NewEvent, append_events
from core.models import Attempt, Checkpoint, Event, Job
from core.queue import Lease, record, succeed_attempt
from core.states import EventKind, JobStatus
from core.storage import Storage
from tests.chaos.checker import violations
from tests.chaos.user import Promise
from tests.factories import NOW, later, make_attempt


def metrics(step: int) -> NewEvent:
    return NewEvent(kind=EventKind.METRICS, message="", data={"step": step, "train_loss": 1.0})


@pytest.fixture
def lease(database: Database, storage: Storage) -> Lease:
    """A job that has ended well, as it should."""
    with database.write() as session:
        job, lease = make_attempt(session)
        record(session, lease, [metrics(1), metrics(2)], now=NOW, step=2, total_steps=2)
        stored = storage.put_stream(f"jobs/{job.id}/attempt-1/step-2/model.safetensors", [b"x"])
        entry = ManifestEntry("model.safetensors", stored.size, stored.sha256, "weights")
        publish_checkpoint(session, lease, step=2, manifest=[entry], metrics={}, now=NOW)
        succeed_attempt(session, lease, now=NOW, trained_tokens=1, peak_memory_bytes=1)
    return lease


def test_a_right_history_passes(database: Database, storage: Storage, lease: Lease) -> None:
    assert violations(database, storage) == []


def _late_write(session: Session, job_id: str) -> None:
    """What a worker without the fence does: it writes after another one has ended the job."""
    job = session.get_one(Job, job_id)
    job.event_seq += 1
    event = NewEvent(kind=EventKind.LOG, message="late")
    append_events(session, job_id, [event], last_seq=job.event_seq, attempt=1, now=later(1))


def _old_attempt(session: Session, job_id: str) -> None:
    session.execute(update(Event).where(Event.seq == 3).values(attempt=2))


def _gap(session: Session, job_id: str) -> None:
    session.delete(session.get_one(Event, (job_id, 3)))


def _step_missing(session: Session, job_id: str) -> None:
    data = {"step": 1, "train_loss": 1.0}
    session.execute(update(Event).where(Event.seq == 4).values(data=data))


def _stuck(session: Session, job_id: str) -> None:
    session.execute(update(Job).values({"status": JobStatus.RUNNING}))


def _open_attempt(session: Session, job_id: str) -> None:
    session.execute(update(Attempt).values(outcome=None))


def _unpublished(session: Session, job_id: str) -> None:
    session.query(Checkpoint).delete()


def _bad_hash(session: Session, job_id: str) -> None:
    entry = {"path": "model.safetensors", "size_bytes": 1, "sha256": "0" * 64, "part": "weights"}
    session.execute(update(Checkpoint).values(manifest=[entry]))


def _step_twice(session: Session, job_id: str) -> None:
    """Two workers at once: both tell the same step under the attempt of one of them."""
    data = {"step": 1, "train_loss": 1.0}
    session.execute(update(Event).where(Event.seq == 4).values(data=data))
    session.execute(update(Event).where(Event.seq == 3).values(data={"step": 2, "train_loss": 1.0}))


def _told_twice(session: Session, job_id: str) -> None:
    values = {"kind": EventKind.CHECKPOINT, "data": {"step": 2}}
    session.execute(update(Event).where(Event.seq == 4).values(values))


def _leap(session: Session, job_id: str) -> None:
    state = {"status": "running", "from": "paused", "attempt": 1}
    session.execute(update(Event).where(Event.seq == 2).values(data=state))


def _held(session: Session, job_id: str) -> None:
    session.execute(update(Job).values(lease_token="somebody"))


def _resumed_from_nothing(session: Session, job_id: str) -> None:
    session.execute(update(Attempt).values(resumed_from_step=1))


@pytest.mark.parametrize(
    "forge",
    [
        _late_write,
        _old_attempt,
        _gap,
        _step_missing,
        _stuck,
        _open_attempt,
        _unpublished,
        _bad_hash,
        _step_twice,
        _told_twice,
        _leap,
        _held,
        _resumed_from_nothing,
    ],
)
def test_a_forged_history_is_caught(
    database: Database,
    storage: Storage,
    lease: Lease,
    forge: Callable[[Session, str], None],
) -> None:
    with database.write() as session:
        forge(session, lease.job_id)

    assert violations(database, storage) != []


def test_bytes_that_belong_to_nobody_are_found(
    database: Database, storage: Storage, lease: Lease
) -> None:
    storage.put_stream("jobs/ftjob-gone/attempt-1/step-1/model.safetensors", [b"x"])
    attempt = storage.local_path(f"jobs/{lease.job_id}/attempt-1")
    assert attempt is not None
    (attempt / "step-2" / "model.safetensors#1").write_bytes(b"half")

    found = violations(database, storage)

    assert any("ftjob-gone" in problem for problem in found)
    assert any("broke off" in problem for problem in found)


def _promise(lease: Lease, **fields: object) -> Promise:
    promise = Promise(lease.job_id, "none", seen=list(range(1, 7)))
    for name, value in fields.items():
        setattr(promise, name, value)
    return promise


def test_a_promise_that_was_kept_passes(database: Database, storage: Storage, lease: Lease) -> None:
    assert violations(database, storage, [_promise(lease)]) == []


@pytest.mark.parametrize(
    "told",
    [
        {"job_id": "ftjob-lost"},
        {"status": JobStatus.CANCELLED},
        {"is_deleted": True},
        {"seen": [1, 2, 4, 5, 6]},
        {"seen": [1, 2, 2, 3, 4, 5, 6]},
        {"seen": [1, 2, 3]},
    ],
)
def test_a_promise_that_was_broken_is_found(
    database: Database, storage: Storage, lease: Lease, told: dict[str, object]
) -> None:
    assert violations(database, storage, [_promise(lease, **told)]) != []


def test_a_request_that_made_two_jobs_is_found(
    database: Database, storage: Storage, lease: Lease
) -> None:
    with database.write() as session:
        make_attempt(session)

    found = violations(database, storage, [_promise(lease)])

    assert any("asked for by nobody" in problem for problem in found)
