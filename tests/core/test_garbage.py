"""Unpublished bytes go when nobody can publish them any more, and not before."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, checkpoint_prefix, publish_checkpoint
from core.db import Database
from core.files import NewFile, add_file
from core.garbage import STRAY_AGE, remove_garbage, remove_strays
from core.queue import claim_job, rescue_jobs
from core.storage import Storage
from tests.factories import LEASE_SECONDS, NOW, POLICY, later, make_attempt, make_job


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


SOON = timedelta(minutes=1)


def test_bytes_whose_row_was_never_written_go_after_a_day(
    database: Database, storage: Storage
) -> None:
    """The database went away between the two."""
    kept, stray = (storage.put_stream(f"files/file-{name}", [b"x"]) for name in ("kept", "stray"))
    with database.write() as session:
        new = NewFile("file-kept", "kept.jsonl", "fine-tune", kept, None)
        add_file(session, new, now=NOW)
    now = datetime.now(UTC)

    assert remove_strays(database, storage, now=now + STRAY_AGE - SOON) == 0
    assert remove_strays(database, storage, now=now + STRAY_AGE + SOON) == 1

    assert not storage.exists(stray.key)
    assert storage.exists(kept.key)


def test_what_stayed_of_deleted_jobs_goes(database: Database, storage: Storage) -> None:
    """Their rows were gone when the storage was away."""
    with database.write() as session:
        job = make_job(session)
    store(storage, job.id, 1, 5)
    store(storage, "ftjob-gone", 1, 5)
    storage.put_stream("uploads/upload-gone/part-1", [b"x"])

    removed = remove_strays(database, storage, now=datetime.now(UTC) + STRAY_AGE + SOON)

    assert removed == 2
    assert [key for key, _ in storage.list("jobs")] == [
        f"jobs/{job.id}/attempt-1/step-5/model.safetensors"
    ]
    assert list(storage.list("uploads")) == []


def test_what_a_killed_upload_left_goes_after_a_day(
    database: Database, storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "storage/files").mkdir()
    torn = tmp_path / "storage/files/file-torn#1"
    torn.write_bytes(b"half of it")
    now = datetime.now(UTC)
    with database.write() as session:
        stored = storage.put_stream("files/file-a", [b"x"])
        add_file(session, NewFile("file-a", "a", "fine-tune", stored, None), now=NOW)

    remove_strays(database, storage, now=now)
    assert torn.exists()
    old = (now - STRAY_AGE - SOON).timestamp()
    os.utime(torn, (old, old))
    remove_strays(database, storage, now=now)

    assert not torn.exists()
    assert storage.exists("files/file-a")
