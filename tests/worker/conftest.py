"""A real worker runtime with real training children, on tiny models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.db import Database, database_now
from core.events import read_events, read_metrics
from core.files import add_file, store_file
from core.jobs import get_job, submit_job
from core.models import Event, Job
from core.room import Fleet
from core.settings import Settings
from core.spec import parse_spec
from core.storage import Storage
from core.submission import resolve_spec
from examples.tiny_model import make_tiny_model, write_pydoc_text
from tests.factories import facts_reader
from worker.forkserver import child_environment, warm
from worker.runtime import Runtime

FAMILIES = ("opt", "llama")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models, as MODEL_ROOTS names one."""
    root = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        make_tiny_model(family, root / f"tiny-{family}")
    return root


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows of text."""
    path = tmp_path_factory.mktemp("data") / "text.jsonl"
    write_pydoc_text(path, rows=200)
    return path


@pytest.fixture(scope="session")
def warm_forkserver(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The forkserver that all tests of this session share."""
    warm(child_environment(scratch=tmp_path_factory.mktemp("home")))


@dataclass
class Bench:
    """Everything around a runtime, and the steps that tests take most."""

    settings: Settings
    database: Database
    storage: Storage
    text_file: Path

    def runtime(self) -> Runtime:
        """A worker, as if on a machine of its own."""
        return Runtime(self.settings, self.database, self.storage)

    def upload(self, path: Path | None = None) -> str:
        """Store and record a file; its id."""
        with (path or self.text_file).open("rb") as source:
            chunks = iter(lambda: source.read(65536), b"")
            new = store_file(self.storage, chunks, purpose="fine-tune", filename="text.jsonl")
        with self.database.write() as session:
            add_file(session, new, now=database_now(session))
        return new.id

    def submit(self, **body: Any) -> Job:
        """A checked job in the queue; small settings unless `training` says otherwise."""
        training = {
            "max_steps": 6,
            "logging_steps": 1,
            "per_device_train_batch_size": 2,
            "max_length": 48,
            "learning_rate": 1e-3,
        }
        training |= body.pop("training", {})
        body.setdefault("model", "local/tiny-opt")
        if "dataset" not in body:
            body.setdefault("training_file", self.upload())
        spec = parse_spec({**body, "training": training})
        with self.database.write() as session:
            now = database_now(session)
            resolved = resolve_spec(
                session,
                spec,
                model_roots=self.settings.model_roots,
                max_attempts=3,
                reader=facts_reader(self.settings.model_roots),
                fleet=Fleet.alive(session, now=now),
            )
            return submit_job(session, spec, resolved, now=now, ring=lambda: None)

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        with self.database.read() as session:
            return get_job(session, job_id)

    def events(self, job_id: str) -> list[Event]:
        """All events, the oldest first."""
        with self.database.read() as session:
            return read_events(session, job_id, after_seq=0, limit=100_000)

    def losses(self, job_id: str) -> dict[int, float]:
        """The training loss by step."""
        with self.database.read() as session:
            metrics = read_metrics(session, job_id)
        pairs = zip(metrics["step"], metrics["train_loss"], strict=True)
        return {step: loss for step, loss in pairs if loss is not None}


@pytest.fixture
def bench(
    database: Database,
    storage: Storage,
    tmp_path: Path,
    models: Path,
    text_file: Path,
    warm_forkserver: None,
) -> Bench:
    """A database, a storage and settings for workers, all of this test's own."""
    settings = Settings(
        TUNEYARD_HOME=tmp_path,
        MODEL_ROOTS=(models,),
        LEASE_SECONDS=5,
        POLL_SECONDS=0.2,
        EVENT_FLUSH_SECONDS=0.02,
        RETRY_BACKOFF_SECONDS=0,
    )
    return Bench(settings, database, storage, text_file)
