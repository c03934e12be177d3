"""Jobs and room on disks: refused, waiting, paused and going on."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from core.checkpoints import ManifestEntry, publish_checkpoint
from core.errors import InsufficientDisk
from core.failure import Failure
from core.jobs import pause_job, resume_job
from core.models import Job, Worker
from core.queue import claim_job, fail_attempt, stop_attempt
from core.room import Fleet, Hold, Room, check_fits_ever, reserved_bytes
from core.states import FailureReason, JobStatus, Outcome
from core.waiting import count_claimable, queue_places, resume_held_jobs
from tests.factories import NOW, POLICY, later, make_attempt, make_job

PLAN = {"checkpoint_bytes": 100, "disk_bytes": 1000}
ROOMY = Room(10_000, 10_000)


def make_planned(session: Session) -> Job:
    """A queued job whose 10 checkpoints take 100 bytes each."""
    job = make_job(session)
    job.plan, job.scratch_bytes, job.storage_bytes = PLAN, 200, 1000
    session.flush()
    return job


def make_worker(session: Session, name: str = "w", *, seen: float = 0, **facts: Any) -> None:
    session.add(Worker(name=name, heartbeat_at=later(seen), slots=1, facts=facts))
    session.flush()


def claim(session: Session, room: Room, *, seconds: float = 0) -> Any:
    return claim_job(session, worker="w", now=later(seconds), lease_seconds=60, room=room)


@pytest.mark.parametrize(
    ("room", "is_claimed"),
    [
        (Room(200, 1000), True),
        (Room(199, 1000), False),
        (Room(200, 999), False),
        (Room(200, None), True),
        (Room(None, None), True),
    ],
)
def test_a_worker_takes_what_has_room_on_its_disks(
    session: Session, room: Room, is_claimed: bool
) -> None:
    make_planned(session)

    assert count_claimable(session, now=NOW, room=room) == is_claimed
    assert (claim(session, room) is not None) == is_claimed


def test_what_is_unknown_is_tried(session: Session) -> None:
    make_job(session)

    assert claim(session, Room(0, 0)) is not None


def test_a_smaller_job_goes_first_when_a_larger_one_has_no_room(session: Session) -> None:
    make_planned(session)
    small = make_job(session)

    job, _ = claim(session, Room(100, 100))

    assert job.id == small.id


def test_what_is_stored_already_is_not_needed_again(session: Session) -> None:
    job = make_planned(session)
    _, lease = claim(session, ROOMY)
    entry = ManifestEntry("model.safetensors", 600, "0" * 64, "weights")
    publish_checkpoint(session, lease, step=5, manifest=[entry], metrics={}, now=NOW)
    stop_attempt(session, lease, Outcome.RELEASED, now=NOW)

    assert claim(session, Room(200, 399)) is None
    assert claim(session, Room(200, 400)) is not None
    assert job.status is JobStatus.RUNNING


def test_a_job_without_room_says_what_it_waits_for(session: Session) -> None:
    job = make_planned(session)
    job.scratch_bytes = 5_000_000_000
    make_worker(session, "small", scratch_free_bytes=10**9, storage_free_bytes=None)
    make_worker(session, "large", scratch_free_bytes=2 * 10**9, storage_free_bytes=None)

    assert queue_places(session, [job], now=NOW)[job.id] == (
        0,
        "waits for disk space: needs 5.00 GB of the scratch disk (TUNEYARD_SCRATCH); "
        "large has 2.00 GB to spare",
    )


@pytest.mark.parametrize(
    "other",
    [
        {"scratch_free_bytes": 10**10},
        {"scratch_free_bytes": None},
        {},
    ],
)
def test_it_does_not_say_so_while_another_worker_may_have_room(
    session: Session, other: dict[str, Any]
) -> None:
    job = make_planned(session)
    job.scratch_bytes = 5_000_000_000
    make_worker(session, "small", scratch_free_bytes=10**9)
    make_worker(session, "other", **other)

    place = queue_places(session, [job], now=NOW)[job.id]

    assert place is not None
    assert "waits for a free worker" in place[1]


def test_what_can_never_fit_is_refused(session: Session) -> None:
    make_worker(session, scratch_total_bytes=199, storage_total_bytes=10_000)

    with pytest.raises(InsufficientDisk, match=r"TUNEYARD_SCRATCH.*save_total_limit") as raised:
        check_fits_ever(PLAN, Fleet.alive(session, now=NOW))

    assert raised.value.param == "training.save_total_limit"


@pytest.mark.parametrize(
    ("facts", "plan", "seen"),
    [
        ({"scratch_total_bytes": 200, "storage_total_bytes": 1000}, PLAN, 0),
        ({"scratch_total_bytes": 1, "storage_total_bytes": 1}, None, 0),
        ({"scratch_total_bytes": None, "storage_total_bytes": None}, PLAN, 0),
        ({"scratch_total_bytes": 1, "storage_total_bytes": 1}, PLAN, -1000),
    ],
    ids=["fits", "no plan", "unknown", "dead worker"],
)
def test_what_may_fit_is_accepted(
    session: Session, facts: dict[str, Any], plan: dict[str, Any] | None, seen: float
) -> None:
    make_worker(session, seen=seen, **facts)

    check_fits_ever(plan, Fleet.alive(session, now=NOW))


def test_a_job_that_ran_out_of_room_pauses_and_goes_on_by_itself(session: Session) -> None:
    make_planned(session)
    job, lease = claim(session, ROOMY)
    hold = Hold("The scratch disk is nearly full.", scratch_bytes=500)

    stop_attempt(session, lease, Outcome.PAUSED, now=NOW, hold=hold)

    assert (job.status, job.pause_reason) == (JobStatus.PAUSED, hold.message)
    assert resume_held_jobs(session, now=NOW, room=Room(499, 10_000)) == 0
    assert resume_held_jobs(session, now=NOW, room=Room(500, 10_000)) == 1
    assert (job.status, job.pause_reason) == (JobStatus.QUEUED, None)
    assert claim(session, Room(499, 10_000)) is None
    assert claim(session, Room(500, 10_000)) is not None
    assert job.num_failed_attempts == 0


def test_a_write_that_failed_pauses_too_and_is_not_charged(session: Session) -> None:
    make_planned(session)
    job, lease = claim(session, ROOMY)
    failure = Failure(
        reason=FailureReason.STORAGE_FULL,
        message="The storage is full.",
        hold=Hold("The storage is full.", storage_bytes=300, wait_seconds=60),
    )

    fail_attempt(session, lease, failure, now=NOW, policy=POLICY)

    assert (job.status, job.pause_reason) == (JobStatus.PAUSED, "The storage is full.")
    assert job.num_failed_attempts == 0
    assert resume_held_jobs(session, now=later(59), room=Room(10_000, None)) == 0
    assert resume_held_jobs(session, now=later(60), room=Room(10_000, None)) == 1


def test_a_user_may_resume_it_sooner(session: Session) -> None:
    """What was seen to be needed is forgotten: the user knows better."""
    make_planned(session)
    job, lease = claim(session, ROOMY)
    hold = Hold("full", scratch_bytes=500, wait_seconds=600)
    stop_attempt(session, lease, Outcome.PAUSED, now=NOW, hold=hold)

    resume_job(session, job, now=NOW, ring=lambda: None)

    assert job.pause_reason is None
    assert claim(session, Room(200, 10_000)) is not None


def test_what_its_user_paused_stays_paused(session: Session) -> None:
    job = make_planned(session)
    pause_job(session, job, now=NOW)

    assert resume_held_jobs(session, now=NOW, room=ROOMY) == 0
    assert job.status is JobStatus.PAUSED


def test_a_pause_of_its_user_goes_before_one_for_room(session: Session) -> None:
    """Nobody but the user takes it back."""
    job, lease = make_attempt(session)
    pause_job(session, job, now=NOW)

    stop_attempt(session, lease, Outcome.PAUSED, now=NOW, hold=Hold("full"))

    assert (job.status, job.pause_reason) == (JobStatus.PAUSED, None)
    assert resume_held_jobs(session, now=NOW, room=ROOMY) == 0


def test_a_cancel_goes_before_a_pause_for_room(session: Session) -> None:
    job, lease = make_attempt(session)
    job.cancel_requested_at = NOW
    session.flush()

    stop_attempt(session, lease, Outcome.PAUSED, now=NOW, hold=Hold("full"))

    assert (job.status, job.pause_reason) == (JobStatus.CANCELLED, None)


GB = 10**9


def make_large(session: Session, needed: int = 5 * GB, **plan: Any) -> Job:
    """A queued job that takes so much memory by its plan."""
    job = make_job(session)
    job.plan, job.memory_bytes = PLAN | plan, needed
    session.flush()
    return job


def test_a_worker_takes_what_has_room_in_its_memory(session: Session) -> None:
    make_large(session)
    small = make_large(session, GB)

    job, _ = claim(session, Room(None, None, 2 * GB))

    assert job.id == small.id
    assert claim(session, Room(None, None, 5 * GB - 1)) is None
    assert claim(session, Room(None, None, 5 * GB)) is not None


def test_the_memory_of_running_jobs_is_spoken_for(session: Session) -> None:
    make_large(session)
    make_large(session, 2 * GB)
    claim(session, ROOMY)
    claim(session, ROOMY)

    assert reserved_bytes(session, worker="w") == 7 * GB
    assert reserved_bytes(session, worker="other") == 0


def test_a_job_that_fits_nowhere_says_so_and_what_would(session: Session) -> None:
    job = make_large(session, change={"text": "micro-batch 1 x accumulation 8", "body": {}})
    make_worker(session, "small", memory_bytes=2 * GB, memory_free_bytes=2 * GB)
    make_worker(session, "large", memory_bytes=4 * GB, memory_free_bytes=4 * GB)

    assert queue_places(session, [job], now=NOW)[job.id] == (
        0,
        "fits on no worker: by the plan it takes 5.00 GB of memory, and large has 4.00 GB in all. "
        "It fits with micro-batch 1 x accumulation 8; or set resources.memory, and the split is "
        "found in the run",
    )


def test_on_a_gpu_its_own_memory_counts(session: Session) -> None:
    job = make_large(session)
    gpu = {"device": "cuda", "memory_bytes": 64 * GB, "device_memory_bytes": 4 * GB}
    make_worker(session, "gpu", memory_free_bytes=4 * GB, **gpu)

    place = queue_places(session, [job], now=NOW)[job.id]

    assert place is not None
    assert "gpu has 4.00 GB in all" in place[1]


def test_a_gpu_that_tells_nothing_may_have_room(session: Session) -> None:
    job = make_large(session)
    make_worker(session, "gpu", device="cuda", memory_bytes=2 * GB)

    place = queue_places(session, [job], now=NOW)[job.id]

    assert place is not None
    assert "waits for a free worker" in place[1]


def test_a_job_waits_for_memory_that_others_hold(session: Session) -> None:
    job = make_large(session)
    make_worker(session, "w", memory_bytes=8 * GB, memory_free_bytes=3 * GB)

    assert queue_places(session, [job], now=NOW)[job.id] == (
        0,
        "waits for memory: by the plan it takes 5.00 GB; w has 3.00 GB to spare",
    )


def test_memory_that_a_running_job_holds_is_no_lack(session: Session) -> None:
    make_large(session)
    claim(session, ROOMY)
    job = make_large(session)
    make_worker(session, "w", memory_bytes=8 * GB, memory_free_bytes=3 * GB)

    place = queue_places(session, [job], now=NOW)[job.id]

    assert place is not None
    assert "waits for a free worker" in place[1]
