"""A worker runs real jobs to their right end, whatever happens on the way."""

import csv
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core.checkpoints import entries, list_checkpoints
from core.db import database_now
from core.files import get_file
from core.isolated import forker_pid
from core.jobs import (
    cancel_job,
    delete_job,
    get_job,
    list_attempts,
    pause_job,
    resume_job,
    submit_job,
)
from core.models import Attempt, Event, Job
from core.resuming import last_step
from core.room import Fleet
from core.states import EventKind, JobStatus, Outcome
from core.submission import resolve_spec, retry_spec
from tests.conftest import ON_SQLITE
from tests.factories import facts_reader
from tests.servers.leftovers import SHARED
from tests.worker.conftest import Bench
from worker.runtime import Runtime

pytestmark = pytest.mark.training

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 700 * 1024**2
LEAST_LIMIT = 64 * 1024**2
"""Less than the largest micro-batch needs, more than the interpreter and its libraries."""
SLOW = {"max_steps": 400, "save_steps": 5}
"""Long enough that a test can do something to it while it runs."""


@contextmanager
def working(runtime: Runtime) -> Iterator[threading.Thread]:
    """The runtime takes jobs in a thread of its own; ends by leaving."""
    thread = threading.Thread(target=runtime.work)
    thread.start()
    try:
        yield thread
    finally:
        runtime.leave()
        thread.join()
        runtime.join()


def wait_for(bench: Bench, job_id: str, found: Callable[[list[Event]], bool]) -> None:
    """Poll the events until `found`; pytest's time limit ends a wait that never ends."""
    pause = threading.Event()
    while not found(bench.events(job_id)):
        pause.wait(0.02)


def has_step(step: int) -> Callable[[list[Event]], bool]:
    return lambda events: any(
        event.kind is EventKind.METRICS and event.data["step"] >= step for event in events
    )


def has_checkpoint(events: list[Event]) -> bool:
    return any(event.kind is EventKind.CHECKPOINT for event in events)


def training_children() -> list[psutil.Process]:
    """Sessions of their own below this process: forked children, not the forkserver.

    What other tests left dead and nobody waited for is no child any more, and what reads uploads
    is no training.
    """
    below = psutil.Process().children(recursive=True)
    return [child for child in below if child.pid != forker_pid() and _is_training(child)]


def _is_training(process: psutil.Process) -> bool:
    try:
        is_alone = os.getsid(process.pid) == process.pid
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return is_alone and is_alive and process.name() not in SHARED
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def outcomes(bench: Bench, job_id: str) -> list[Outcome | None]:
    with bench.database.read() as session:
        attempts = session.query(Attempt).filter_by(job_id=job_id).order_by(Attempt.number)
        return [attempt.outcome for attempt in attempts]


def test_a_job_trains_and_is_published(bench: Bench) -> None:
    job = bench.submit(training={"save_steps": 4})
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.fine_tuned_model == f"jobs/{job.id}"
    assert sorted(bench.losses(job.id)) == [1, 2, 3, 4, 5, 6]
    assert job.trained_tokens
    with bench.database.read() as session:
        checkpoints = list_checkpoints(session, job.id)
    assert [checkpoint.step for checkpoint in checkpoints] == [6, 4]
    for checkpoint in checkpoints:
        for entry in entries(checkpoint):
            assert bench.storage.size(f"{checkpoint.prefix}/{entry.path}") == entry.size_bytes


def test_the_metrics_are_left_as_a_file(bench: Bench) -> None:
    job = bench.submit()
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    (file_id,) = bench.job(job.id).result_files or []
    with bench.database.read() as session:
        file = get_file(session, file_id)
    table = list(csv.DictReader(bench.storage.read_bytes(file.storage_key).decode().splitlines()))
    losses = {int(row["step"]): float(row["train_loss"]) for row in table}
    assert losses == bench.losses(job.id)


def test_events_are_gapless_and_end_with_the_state(bench: Bench) -> None:
    job = bench.submit()
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    events = bench.events(job.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].kind is EventKind.STATE
    assert events[-1].data["status"] == JobStatus.SUCCEEDED


def test_nothing_is_left_in_scratch(bench: Bench) -> None:
    bench.submit()
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    assert list((bench.settings.scratch_folder / "attempts").iterdir()) == []
    assert training_children() == []


@ON_SQLITE
def test_what_was_learned_can_be_trained_on(bench: Bench) -> None:
    first = bench.submit(peft={"r": 4, "target_modules": "all-linear"})
    runtime = bench.runtime()
    runtime.work()

    second = bench.submit(model=f"jobs/{first.id}")
    runtime.work()

    runtime.join()
    assert bench.job(second.id).base_model == f"jobs/{first.id}.step-6"
    assert bench.job(second.id).status is JobStatus.SUCCEEDED
    assert bench.losses(second.id)[1] < bench.losses(first.id)[1]


@pytest.mark.parametrize("peft", [None, {"r": 4, "lora_dropout": 0.1}])
def test_a_killed_child_goes_on_as_if_nothing_had_happened(bench: Bench, peft) -> None:
    training = {"max_steps": 120, "save_steps": 10}
    calm = bench.submit(training=training, peft=peft)
    runtime = bench.runtime()
    runtime.work()
    rough = bench.submit(training=training, peft=peft)

    with working(runtime) as thread:
        wait_for(bench, rough.id, has_checkpoint)
        for child in training_children():
            child.send_signal(signal.SIGKILL)
        thread.join()

    assert bench.job(rough.id).status is JobStatus.SUCCEEDED
    assert outcomes(bench, rough.id) == [Outcome.FAILED, Outcome.SUCCEEDED]
    assert bench.losses(rough.id) == bench.losses(calm.id)
    assert weights(bench, rough.id) == weights(bench, calm.id)


def weights(bench: Bench, job_id: str) -> dict[str, str]:
    with bench.database.read() as session:
        checkpoint = list_checkpoints(session, job_id, limit=1)[0]
    return {
        entry.path: entry.sha256
        for entry in entries(checkpoint, "weights")
        if entry.path.endswith(".safetensors")
    }


@ON_SQLITE
def test_a_damaged_checkpoint_is_passed_over(bench: Bench) -> None:
    job = bench.submit(training=SLOW)
    runtime = bench.runtime()
    with working(runtime):
        wait_for(bench, job.id, lambda events: sum(map(is_checkpoint, events)) >= 2)
        runtime.leave()
    with bench.database.read() as session:
        newest, before = list_checkpoints(session, job.id, limit=2)
    damaged = bench.storage.local_path(f"{newest.prefix}/optimizer.pt")
    assert damaged is not None
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"garbage")

    other = bench.runtime()
    with working(other):
        wait_for(bench, job.id, lambda events: any("Resuming" in e.message for e in events))
        with bench.database.write() as session:
            cancel_job(session, get_job(session, job.id), now=database_now(session))

    messages = [event.message for event in bench.events(job.id)]
    assert f"Resuming from the checkpoint of step {before.step}" in messages
    assert any(
        f"step {newest.step} is damaged (optimizer.pt does not match its hash)" in message
        for message in messages
    )


def is_checkpoint(event: Event) -> bool:
    return event.kind is EventKind.CHECKPOINT


@ON_SQLITE
def test_a_missing_optimizer_is_never_a_silent_restart(bench: Bench) -> None:
    job = bench.submit(training=SLOW)
    with working(bench.runtime()) as _:
        wait_for(bench, job.id, has_checkpoint)
    with bench.database.read() as session:
        checkpoints = list_checkpoints(session, job.id, limit=100)
    for checkpoint in checkpoints:
        bench.storage.delete(f"{checkpoint.prefix}/optimizer.pt")

    with working(bench.runtime()):
        wait_for(bench, job.id, lambda events: any("begins again" in e.message for e in events))
        with bench.database.write() as session:
            cancel_job(session, get_job(session, job.id), now=database_now(session))

    assert any("optimizer.pt is missing" in event.message for event in bench.events(job.id))


def test_cancel_while_training_stops_the_child(bench: Bench) -> None:
    job = bench.submit(training=SLOW)

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_step(2))
        with bench.database.write() as session:
            cancel_job(session, get_job(session, job.id), now=database_now(session))
        thread.join()
        assert training_children() == []

    assert bench.job(job.id).status is JobStatus.CANCELLED
    assert outcomes(bench, job.id) == [Outcome.CANCELLED]


def test_cancel_with_save_keeps_a_last_checkpoint(bench: Bench) -> None:
    job = bench.submit(training={"max_steps": 400, "save_strategy": "no"})

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_step(3))
        with bench.database.write() as session:
            cancel_job(session, get_job(session, job.id), now=database_now(session), save=True)
        thread.join()

    job = bench.job(job.id)
    assert job.status is JobStatus.CANCELLED
    with bench.database.read() as session:
        checkpoints = list_checkpoints(session, job.id)
    assert [checkpoint.step for checkpoint in checkpoints] == [job.step]
    assert job.step >= 3


def test_cancel_while_loading(bench: Bench) -> None:
    job = bench.submit(training=SLOW)

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, lambda events: len(events) >= 2)
        with bench.database.write() as session:
            cancel_job(session, get_job(session, job.id), now=database_now(session))
        thread.join()

    assert bench.job(job.id).status is JobStatus.CANCELLED
    assert training_children() == []


def test_pause_and_resume_do_not_change_the_curve(bench: Bench) -> None:
    training = {"max_steps": 200}
    calm = bench.submit(training=training)
    runtime = bench.runtime()
    runtime.work()
    paused = bench.submit(training=training)

    with working(runtime) as thread:
        wait_for(bench, paused.id, has_step(3))
        with bench.database.write() as session:
            pause_job(session, get_job(session, paused.id), now=database_now(session))
        thread.join()
    assert bench.job(paused.id).status is JobStatus.PAUSED
    with bench.database.write() as session:
        job = get_job(session, paused.id)
        resume_job(session, job, now=database_now(session), ring=lambda: None)
    other = bench.runtime()
    other.work()

    other.join()
    assert bench.job(paused.id).status is JobStatus.SUCCEEDED
    assert outcomes(bench, paused.id) == [Outcome.PAUSED, Outcome.SUCCEEDED]
    assert bench.losses(paused.id) == bench.losses(calm.id)


def test_a_leaving_worker_gives_its_job_to_the_next_one(bench: Bench) -> None:
    training = {"max_steps": 200}
    calm = bench.submit(training=training)
    runtime = bench.runtime()
    runtime.work()
    handed = bench.submit(training=training)

    with working(runtime):
        wait_for(bench, handed.id, has_step(3))
    assert bench.job(handed.id).status is JobStatus.QUEUED
    other = bench.runtime()
    other.work()

    other.join()
    assert outcomes(bench, handed.id) == [Outcome.RELEASED, Outcome.SUCCEEDED]
    assert bench.job(handed.id).num_failed_attempts == 0
    assert bench.losses(handed.id) == bench.losses(calm.id)


def test_a_worker_that_lost_its_lease_stops_and_writes_nothing(bench: Bench) -> None:
    job = bench.submit(training=SLOW)

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_step(2))
        with bench.database.write() as session:
            stolen = get_job(session, job.id)
            stolen.lease_token = "somebody else's"
        thread.join()
        assert training_children() == []

    assert bench.job(job.id).status is JobStatus.RUNNING
    assert bench.job(job.id).lease_token == "somebody else's"


def test_a_worker_without_a_free_slot_takes_nothing(bench: Bench) -> None:
    runtime = bench.runtime()
    first = bench.submit(training=SLOW)

    with working(runtime):
        wait_for(bench, first.id, has_step(1))
        second = bench.submit()
        runtime.work()
        assert bench.job(second.id).status is JobStatus.QUEUED


def test_the_idle_poll_finds_a_job_that_nobody_rang_for(bench: Bench) -> None:
    job = bench.submit()
    runtime = bench.runtime()

    runtime.start()

    wait_for(bench, job.id, lambda events: events[-1].data.get("status") == "succeeded")
    runtime.leave()
    runtime.join()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"training": {"eos_token": "<nope>"}}, "invalid_argument"),
        ({"model": "local/broken"}, "invalid_model"),
    ],
)
def test_what_the_user_caused_fails_once_with_its_code(
    bench: Bench, models: Path, body: dict[str, object], code: str
) -> None:
    broken = models / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "config.json").write_text("{}")
    job = bench.submit(**body)
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == code
    assert outcomes(bench, job.id) == [Outcome.FAILED]


@ON_SQLITE
def test_a_child_that_hangs_is_seen_and_the_job_goes_on(bench: Bench) -> None:
    """Where it hung is the end of its log."""
    training = {"max_steps": 120, "save_steps": 10}
    bench.settings = bench.settings.model_copy(update={"stall_seconds": 1.0})
    job = bench.submit(training=training)

    with working(bench.runtime()) as thread:
        wait_for(bench, job.id, has_checkpoint)
        for child in training_children():
            child.suspend()
        thread.join()

    assert bench.job(job.id).status is JobStatus.SUCCEEDED
    with bench.database.read() as session:
        errors = [attempt.error for attempt in list_attempts(session, job.id)]
    assert [error["code"] for error in errors if error] == ["stalled"]
    log = [event.message for event in bench.events(job.id) if event.kind is EventKind.LOG]
    assert any("most recent call first" in line for line in log)


def test_a_job_ends_at_its_time_limit_with_a_checkpoint(bench: Bench) -> None:
    job = bench.submit(training={"max_steps": 100_000, "save_strategy": "no"}, max_seconds=2)
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "time_limit"
    with bench.database.read() as session:
        assert list_checkpoints(session, job.id)[0].step == job.step


@ON_SQLITE
@pytest.mark.parametrize(
    "quantization",
    [
        {"load_in_8bit": True},
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "float32"},
    ],
)
def test_a_quantized_model_is_trained_by_lora(
    bench: Bench, quantization: dict[str, object]
) -> None:
    peft = {"r": 4, "target_modules": "all-linear"}
    job = bench.submit(model="local/tiny-llama", peft=peft, quantization=quantization)
    exact = bench.submit(model="local/tiny-llama", peft=peft)
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    assert bench.job(job.id).status is JobStatus.SUCCEEDED, bench.job(job.id).error
    losses, exact_losses = bench.losses(job.id), bench.losses(exact.id)
    assert losses != exact_losses
    assert losses == pytest.approx(exact_losses, abs=0.05)
    assert "adapter_model.safetensors" in weights(bench, job.id)


@ON_SQLITE
def test_only_the_newest_checkpoints_are_kept(bench: Bench) -> None:
    """save_total_limit is honoured in storage, where the checkpoints are."""
    job = bench.submit(training={"max_steps": 8, "save_steps": 2, "save_total_limit": 2})
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    with bench.database.read() as session:
        assert [item.step for item in list_checkpoints(session, job.id)] == [8, 6]
    stored = {key.split("/")[3] for key, _ in bench.storage.list(f"jobs/{job.id}")}
    assert stored == {"step-8", "step-6"}


@ON_SQLITE
def test_the_best_checkpoint_survives_the_limit(bench: Bench) -> None:
    training = {
        "max_steps": 10,
        "save_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "greater_is_better": True,
    }
    job = bench.submit(training=training, validation_file=bench.upload())
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    assert bench.job(job.id).status is JobStatus.SUCCEEDED, bench.job(job.id).error
    with bench.database.read() as session:
        kept = [item.step for item in list_checkpoints(session, job.id)]
    assert kept == [10, 2]


def retry(bench: Bench, job_id: str, **training: object) -> Job:
    """A retry in the queue, without a time limit."""
    roots = bench.settings.model_roots
    with bench.database.write() as session:
        spec = retry_spec(session, get_job(session, job_id), training)
        spec = spec.model_copy(update={"max_seconds": None})
        now = database_now(session)
        resolved = resolve_spec(
            session,
            spec,
            model_roots=roots,
            max_attempts=3,
            reader=facts_reader(roots),
            fleet=Fleet.alive(session, now=now),
        )
        return submit_job(session, spec, resolved, now=now, ring=lambda: None, retry_of=job_id)


def test_a_retry_of_a_retry_goes_on_from_the_last_checkpoint(bench: Bench) -> None:
    """The one between was cancelled before it came to a checkpoint of its own."""
    failed = bench.submit(training={"max_steps": 100_000, "save_strategy": "no"}, max_seconds=2)
    runtime = bench.runtime()
    runtime.work()
    reached = bench.job(failed.id).step
    between = retry(bench, failed.id, max_steps=reached + 2)
    with bench.database.write() as session:
        cancel_job(session, get_job(session, between.id), now=database_now(session))
    again = retry(bench, between.id, max_steps=reached + 3)

    runtime.work()

    runtime.join()
    assert bench.job(again.id).status is JobStatus.SUCCEEDED
    assert sorted(bench.losses(again.id)) == [reached + 1, reached + 2, reached + 3]


@ON_SQLITE
def test_epochs_are_as_many_steps_as_a_retry_counts(bench: Bench) -> None:
    training = {
        "max_steps": -1,
        "num_train_epochs": 0.07,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "dataloader_drop_last": True,
    }
    job = bench.submit(training=training)
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.data_report is not None
    assert job.total_steps == last_step(job.training, job.data_report["train"]["sequences"])


def test_a_deleted_job_leaves_nothing(bench: Bench) -> None:
    job = bench.submit()
    runtime = bench.runtime()
    runtime.work()
    runtime.join()

    with bench.database.write() as session:
        found = get_job(session, job.id)
        delete_job(session, found, delete_bytes=bench.storage.delete_prefix)

    assert list(bench.storage.list(f"jobs/{job.id}")) == []
    assert bench.events(job.id) == []


@ON_SQLITE
def test_a_job_that_does_not_fit_trains_the_same_thing_in_smaller_pieces(bench: Bench) -> None:
    """Under a real limit the curve is that of the job that fitted from the start."""
    training = {
        "max_steps": 3,
        "per_device_train_batch_size": 64,
        "max_length": 128,
        "packing": True,
        "learning_rate": 1e-3,
    }
    roomy = bench.submit(model="local/tiny-llama", training=training)
    tight = bench.submit(
        model="local/tiny-llama", training=training, resources={"memory": LIMIT_BYTES}
    )
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(tight.id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert outcomes(bench, tight.id)[0] is Outcome.FAILED
    batch = job.training["per_device_train_batch_size"]
    assert batch < 64
    assert batch * job.training["gradient_accumulation_steps"] == 64
    assert any("the effective batch stays 64" in event.message for event in bench.events(tight.id))
    assert bench.losses(tight.id) == pytest.approx(bench.losses(roomy.id), abs=1e-5)


@ON_SQLITE
def test_a_job_for_which_nothing_is_small_enough_is_told_what_would_be(bench: Bench) -> None:
    training = {
        "max_steps": 3,
        "per_device_train_batch_size": 1,
        "activation_checkpointing": True,
        "max_length": 128,
    }
    job = bench.submit(
        model="local/tiny-llama", training=training, resources={"memory": LEAST_LIMIT}
    )
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    job = bench.job(job.id)
    assert job.error is not None
    assert job.error["code"] == "out_of_memory"
    assert "There is room for" in job.error["suggestion"]
    with bench.database.read() as session:
        attempt = session.get_one(Attempt, (job.id, 1))
    assert attempt.error is not None
    log = attempt.error["evidence"]["log"]
    assert any('File "worker/child/' in line for line in log), log
    ours = (ROOT, sys.prefix, bench.settings.home)
    assert [line for line in log for folder in ours if str(folder) in line] == []
    told = attempt.error["evidence"]["advice"]
    assert told["limit_bytes"] == LEAST_LIMIT
    assert told["needed_bytes"] > told["limit_bytes"]


@ON_SQLITE
def test_any_split_of_the_effective_batch_gives_the_same_curve(bench: Bench) -> None:
    """4x8, 8x4, 32x1 and 1x32: the memory differs, the training does not."""
    splits = [(4, 8), (8, 4), (32, 1), (1, 32)]
    jobs = [
        bench.submit(
            model="local/tiny-llama",
            training={
                "max_steps": 4,
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": accumulation,
            },
        )
        for batch, accumulation in splits
    ]
    runtime = bench.runtime()

    runtime.work()

    runtime.join()
    first, *others = [bench.losses(job.id) for job in jobs]
    assert len(first) == 4
    for other in others:
        assert other == pytest.approx(first, abs=1e-5)
