"""Real jobs while everything around them is killed and frozen; afterwards all is as promised."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openai import APIConnectionError, OpenAI

from core.db import Database
from core.events import read_metrics
from core.storage import open_storage
from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.chaos.checker import violations
from tests.chaos.monkey import Monkey, training_children
from tests.servers.postgres import create_database
from tests.servers.service import Service, running_service

pytestmark = [pytest.mark.training, pytest.mark.process, pytest.mark.timeout(300)]

WORKERS = ["worker", "worker-2"]
SECONDS = 30
JOBS = 8
STEPS = 60
TRAINING = {
    "max_steps": STEPS,
    "logging_steps": 1,
    "save_steps": 10,
    "max_length": 48,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Service, Database]]:
    url = f"sqlite:///{tmp_path / 'tuneyard.db'}"
    if request.param == "postgresql":
        url = create_database(request.getfixturevalue("postgres_server"), "chaos")
    make_tiny_model("llama", tmp_path / "models" / "tiny-llama")
    limits = {"LEASE_SECONDS": "2", "MAX_ATTEMPTS": "50", "MAX_LOST_ATTEMPTS": "50"}
    with running_service(
        tmp_path, database_url=url, models=tmp_path / "models", **limits
    ) as service:
        service.start_worker("worker-2")
        database = Database(url)
        yield service, database
        database.close()


def test_every_job_ends_right_whatever_is_killed(
    service: tuple[Service, Database], tmp_path: Path
) -> None:
    running, database = service
    write_pydoc_text(tmp_path / "text.jsonl", rows=100)
    client = OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    file_id = client.files.create(file=tmp_path / "text.jsonl", purpose="fine-tune").id
    jobs = [
        client.fine_tuning.jobs.create(
            model="local/tiny-llama", training_file=file_id, extra_body={"training": TRAINING}
        ).id
        for _ in range(JOBS)
    ]
    monkey = Monkey(running, workers=WORKERS, seed=20261123, stall_seconds=3)

    monkey.run(SECONDS)
    wait_for_end(client, jobs)
    for name in WORKERS:
        # One that was started again just now may not have set up its handlers yet.
        assert running.stop(name) in (0, -signal.SIGTERM)

    storage = open_storage(f"file://{tmp_path / 'storage'}")
    print(f"harm done: {dict(monkey.done)}")  # noqa: T201 - shown when the test fails
    assert sum(monkey.done.values()) > 0
    assert violations(database, storage) == []
    assert len({curve(database, job_id) for job_id in jobs}) == 1
    assert training_children(running, WORKERS) == []
    wait_until_gone(tmp_path)


def wait_for_end(client: OpenAI, jobs: list[str]) -> None:
    """Until all jobs have ended; pytest's limit ends a wait that never does."""
    pause = threading.Event()
    waiting = set(jobs)
    while waiting:
        pause.wait(0.5)
        try:
            waiting = {
                job_id
                for job_id in waiting
                if client.fine_tuning.jobs.retrieve(job_id).finished_at is None
            }
        except APIConnectionError:
            continue


def wait_until_gone(home: Path) -> None:
    """No orphan stays; one whose worker died while it was loading libraries first finishes that."""
    pause = threading.Event()
    while any(is_ours(process, home) for process in psutil.process_iter()):
        pause.wait(0.5)


def curve(database: Database, job_id: str) -> tuple[float, ...]:
    """The losses of the history that won; equal jobs have equal ones."""
    with database.read() as session:
        columns = read_metrics(session, job_id)
    return tuple(columns["train_loss"])


def is_ours(process: psutil.Process, home: Path) -> bool:
    """Whether a process trains for the service of this test."""
    try:
        environment = process.environ()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return environment.get("HF_HUB_OFFLINE") == "1" and str(home) in environment.get("HOME", "")
