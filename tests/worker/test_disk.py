"""Disks that are full, or nearly: a job saves what it can, pauses, and goes on where it was."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.checkpoints import list_checkpoints
from core.db import database_now
from core.errors import InsufficientDisk
from core.jobs import get_job, list_attempts, resume_job
from core.models import Job, Worker
from core.settings import Settings
from core.states import JobStatus, Outcome
from core.storage import open_storage
from core.workers import list_workers
from tests.conftest import ON_SQLITE
from tests.worker.conftest import Bench
from tests.worker.test_supervisor import (
    SLOW,
    has_checkpoint,
    has_step,
    training_children,
    wait_for,
    weights,
    working,
)
from worker.runtime import Runtime

pytestmark = [pytest.mark.training, ON_SQLITE]

DISK_BYTES = 40 * 1024**2
RESERVE_BYTES = 10 * 1024**2
"""Three checkpoints and more: nothing hits the end of the disk by accident."""
TRIES = 8
FEW_KEPT = SLOW | {"save_total_limit": 2}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, which a test can fill; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def with_settings(bench: Bench, **changes: object) -> Settings:
    return bench.settings.model_copy(update={"disk_reserve_bytes": RESERVE_BYTES, **changes})


def fill(disk: Path) -> Path:
    """Leave the reserve and too little for a checkpoint beside it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > RESERVE_BYTES + 1024**2:
            file.write(b"\0" * 65536)
    return filler


@contextmanager
def polling(runtime: Runtime) -> Iterator[None]:
    """The runtime looks for jobs by itself; ends by leaving."""
    runtime.start()
    try:
        yield
    finally:
        runtime.leave()
        runtime.join()


def is_paused(bench: Bench, job_id: str) -> Job | None:
    job = bench.job(job_id)
    return job if job.status is JobStatus.PAUSED else None


def outcomes(bench: Bench, job_id: str) -> list[Outcome | None]:
    with bench.database.read() as session:
        return [attempt.outcome for attempt in list_attempts(session, job_id)]


def published(bench: Bench, job_id: str) -> list[int]:
    with bench.database.read() as session:
        return [item.step for item in list_checkpoints(session, job_id, limit=1000)]


def test_a_checkpoint_that_could_not_be_written_pauses_the_job(bench: Bench) -> None:
    """The limit of the size of its files stands for the end of the child's disk."""
    training = {"max_steps": 60, "save_steps": 5}
    calm = bench.submit(training=training)
    runtime = bench.runtime()
    runtime.work()
    job = submit_and_fill(bench, runtime, training)
    assert job.pause_reason == "The scratch disk of the worker is full."
    assert job.num_failed_attempts == 0
    kept = published(bench, job.id)
    assert kept

    with bench.database.write() as session:
        found = get_job(session, job.id)
        resume_job(session, found, now=database_now(session), ring=lambda: None)
    other = bench.runtime()
    other.work()

    other.join()
    assert bench.job(job.id).status is JobStatus.SUCCEEDED
    assert outcomes(bench, job.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    with bench.database.read() as session:
        first, second = list_attempts(session, job.id)
    assert first.error["code"] == "disk_full"
    assert second.resumed_from_step == kept[0]
    assert bench.losses(job.id) == bench.losses(calm.id)
    assert weights(bench, job.id) == weights(bench, calm.id)


def submit_and_fill(bench: Bench, runtime: Runtime, training: dict[str, Any]) -> Job:
    """A job that could not write after its first checkpoint, unless it was over before."""
    for _ in range(TRIES):
        job = bench.submit(training=training)
        with working(runtime) as thread:
            wait_for(bench, job.id, has_checkpoint)
            for child in training_children():
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            thread.join()
        paused = is_paused(bench, job.id)
        if paused is not None:
            return paused
        assert bench.job(job.id).status is JobStatus.SUCCEEDED, bench.job(job.id).error
    raise AssertionError(f"{TRIES} jobs were over before their disk was full")


def test_a_nearly_full_scratch_disk_pauses_the_job_until_there_is_room(
    bench: Bench, small_disk: Path
) -> None:
    training = {"max_steps": 120, "save_steps": 5}
    calm = bench.submit(training=training)
    runtime = bench.runtime()
    runtime.work()
    runtime.join()
    bench.settings = with_settings(bench, scratch=small_disk)
    job = bench.submit(training=training)

    with polling(bench.runtime()):
        wait_for(bench, job.id, has_checkpoint)
        filler = fill(small_disk)
        wait_for(bench, job.id, lambda _: is_paused(bench, job.id) is not None)
        paused = bench.job(job.id)
        filler.unlink()
        wait_for(bench, job.id, lambda _: bench.job(job.id).status.is_terminal)

    assert paused.pause_reason is not None
    assert "The scratch disk is nearly full" in paused.pause_reason
    assert bench.job(job.id).status is JobStatus.SUCCEEDED
    assert set(outcomes(bench, job.id)[:-1]) == {Outcome.PAUSED}
    assert bench.losses(job.id) == bench.losses(calm.id)
    assert any("There is room again" in event.message for event in bench.events(job.id))


def test_a_nearly_full_storage_pauses_the_job_with_a_last_checkpoint(
    bench: Bench, small_disk: Path
) -> None:
    bench.settings = with_settings(bench)
    bench.storage = open_storage(str(small_disk / "storage"))
    job = bench.submit(training={"max_steps": 2000, "save_strategy": "no"})

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_step(3))
        fill(small_disk)
        thread.join()

    paused = is_paused(bench, job.id)
    assert paused is not None
    assert paused.pause_reason is not None
    assert "The storage is nearly full" in paused.pause_reason
    assert published(bench, job.id) == [paused.step]


def test_a_full_storage_is_waited_for_and_then_the_job_pauses(
    bench: Bench, small_disk: Path
) -> None:
    """Without a reserve nobody sees it coming."""
    bench.settings = with_settings(bench, disk_reserve_bytes=0, full_storage_seconds=0.5)
    bench.storage = open_storage(str(small_disk / "storage"))
    job = bench.submit(training=FEW_KEPT)

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_checkpoint)
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 65536)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - the disk is full, as it should
        thread.join()

    paused = is_paused(bench, job.id)
    assert paused is not None, bench.job(job.id).error
    kept = published(bench, job.id)
    assert kept
    stored = {
        int(key.split("-")[-1].split("/")[0]) for key, _ in bench.storage.list(f"jobs/{job.id}")
    }
    assert stored == set(kept)


def test_a_job_that_can_never_fit_is_refused(bench: Bench) -> None:
    """By the plan of its model, before anything runs."""
    runtime = bench.runtime()
    runtime.start()
    wait_for(bench, "none", lambda _: bool(workers(bench)))
    runtime.leave()
    runtime.join()
    assert bench.submit(training={"max_steps": 1000, "save_steps": 1}).storage_bytes > 10**9
    total = min(worker.facts["storage_total_bytes"] for worker in workers(bench))
    steps = total // 3_000_000

    with pytest.raises(InsufficientDisk, match=r"training\.save_total_limit"):
        bench.submit(training={"max_steps": steps, "save_steps": 1})

    kept = bench.submit(training={"max_steps": steps, "save_steps": 1, "save_total_limit": 2})
    assert kept.status is JobStatus.QUEUED


def workers(bench: Bench) -> Sequence[Worker]:
    with bench.database.read() as session:
        return list_workers(session)


def test_a_job_waits_for_a_worker_with_room(bench: Bench) -> None:
    job = bench.submit()
    with bench.database.write() as session:
        get_job(session, job.id).scratch_bytes = 2**60
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    assert bench.job(job.id).status is JobStatus.QUEUED
    assert bench.job(job.id).attempt == 0
