"""Unpublished bytes go when nobody can publish them any more, and not before."""

from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, checkpoint_prefix, publish_checkpoint
from core.garbage import remove_garbage
from core.queue import claim_job, rescue_jobs
from core.storage import Storage
from tests.factories import LEASE_SECONDS, NOW, POLICY, later, make_attempt


def store(storage: Storage, job_id: str, attempt: int, step: int) -> None:
    storage.put_stream(f"{checkpoint_prefix(job_id, attempt, step)}/model.safetensors", [b"x"])


def test_garbage_of_a_dead_attempt_goes_and_published_bytes_stay(
    session: Session, storage: Storage
) -> None:
    job, lease = make_attempt(session)
    for step in (5, 10):
        store(storage, job.id, 1, step)
    entry = ManifestEntry("model.safetensors", 1, "0" * 64, "weights")
    publish_checkpoint(session, lease, step=5, manifest=[entry], metrics={}, now=NOW)

    assert remove_garbage(session, storage, job.id) == 0
    rescue_jobs(session, now=later(LEASE_SECONDS + 1), policy=POLICY)
    claim_job(session, worker="w", now=later(100), lease_seconds=60)
    store(storage, job.id, 2, 10)

    assert remove_garbage(session, storage, job.id) == 1
    assert sorted(key for key, _ in storage.list(f"jobs/{job.id}")) == [
        f"jobs/{job.id}/attempt-1/step-5/model.safetensors",
        f"jobs/{job.id}/attempt-2/step-10/model.safetensors",
    ]


def test_what_a_deleted_job_left_goes(session: Session, storage: Storage) -> None:
    store(storage, "ftjob-gone", 1, 5)

    assert remove_garbage(session, storage, "ftjob-gone") == 1
    assert list(storage.list("jobs")) == []
