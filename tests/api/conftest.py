"""The API in this process, over either database, and what tests do to it most."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from httpx import Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from app.main import create_app
from core.checkpoints import ManifestEntry, checkpoint_prefix, part_of, publish_checkpoint
from core.db import Database, database_now
from core.events import NewEvent
from core.models import Checkpoint
from core.queue import Lease, claim_job, record, stop_attempt, succeed_attempt
from core.settings import Settings
from core.states import EventKind, Outcome
from core.storage import Storage, open_storage
from tests.factories import LEASE_SECONDS, NOWHERE

JOBS = "/v1/fine_tuning/jobs"
LOCAL = "http://127.0.0.1"
NO_FILE = "file-000000000000000000000000"
NO_JOB = "ftjob-000000000000000000000000"
ROWS = b"".join(b'{"text": "row %d"}\n' % number for number in range(20))


def jsonl(*rows: Any) -> bytes:
    """One line for each row."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def line(message: str) -> NewEvent:
    """A line of the log."""
    return NewEvent(kind=EventKind.LOG, message=message)


def metrics(step: int, **values: float) -> NewEvent:
    """What was logged at a step."""
    return NewEvent(kind=EventKind.METRICS, message=f"Step {step}", data={"step": step, **values})


def problem_of(response: Response, status: int) -> dict[str, Any]:
    """The error of an answer, after checking that it is a whole envelope with a request id."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    retried = status in (408, 429, 500, 502, 503, 504)
    assert response.headers["x-should-retry"] == str(retried).lower()
    body: dict[str, dict[str, Any]] = response.json()
    assert list(body) == ["error"]
    assert {"message", "type", "param", "code"} <= body["error"].keys()
    assert body["error"]["message"]
    return body["error"]


@dataclass
class Site:
    """A served API, and its database and storage as a worker would open them."""

    client: TestClient
    database: Database
    storage: Storage

    def post_file(
        self,
        content: bytes = ROWS,
        *,
        name: str = "rows.jsonl",
        purpose: str = "fine-tune",
        fields: dict[str, str] | None = None,
    ) -> Response:
        """Upload."""
        data = {"purpose": purpose, **(fields or {})}
        response: Response = self.client.post(
            "/v1/files", data=data, files={"file": (name, content)}
        )
        return response

    def upload(self, content: bytes = ROWS, **more: str) -> str:
        """Upload a good file; its id."""
        response = self.post_file(content, **more)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def post_job(self, **body: Any) -> Response:
        """Ask for a job on a model that exists; on an uploaded file unless the body names data."""
        if not {"training_file", "dataset"} & body.keys():
            body["training_file"] = self.upload()
        response: Response = self.client.post(JOBS, json={"model": "local/tiny", **body})
        return response

    def submit(self, **body: Any) -> str:
        """A queued job; its id."""
        response = self.post_job(**body)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def claim(self) -> Lease:
        """Start the next job, as a worker would."""
        with self.database.write() as session:
            now = database_now(session)
            claimed = claim_job(session, worker="worker-1", now=now, lease_seconds=LEASE_SECONDS)
        assert claimed is not None
        return claimed[1]

    def start(self, **body: Any) -> Lease:
        """A running job."""
        self.submit(**body)
        return self.claim()

    def record(self, lease: Lease, *events: NewEvent, **values: Any) -> None:
        """Append events in one transaction, as a worker would."""
        with self.database.write() as session:
            record(session, lease, events, now=database_now(session), **values)

    def release(self, lease: Lease) -> None:
        """Give a running job back to the queue."""
        with self.database.write() as session:
            stop_attempt(session, lease, Outcome.RELEASED, now=database_now(session))

    def succeed(self, lease: Lease) -> None:
        """End a running job well."""
        with self.database.write() as session:
            now = database_now(session)
            succeed_attempt(session, lease, now=now, trained_tokens=7, peak_memory_bytes=None)

    def publish(self, lease: Lease, step: int, files: dict[str, bytes]) -> Checkpoint:
        """Store and publish a checkpoint, as a worker would."""
        prefix = checkpoint_prefix(lease.job_id, lease.attempt, step)
        manifest = []
        for path, content in files.items():
            self.storage.put_stream(f"{prefix}/{path}", [content])
            digest = hashlib.sha256(content).hexdigest()
            manifest.append(ManifestEntry(path, len(content), digest, part_of(path)))
        with self.database.write() as session:
            return publish_checkpoint(
                session,
                lease,
                step=step,
                manifest=manifest,
                metrics={"train_loss": 1.5},
                now=database_now(session),
            )

    def stored(self) -> Sequence[Path]:
        """Every file below the storage's folder, unfinished ones too."""
        root = self.storage.local_path("files")
        assert root is not None
        return [path for path in root.parent.rglob("*") if path.is_file()]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with one model folder in it, local/tiny."""
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder.parent


@pytest.fixture
def api_settings(tmp_path: Path, migrated_url: str, models: Path) -> Settings:
    """Settings of an API at home in the test's own folder."""
    return Settings(
        TUNEYARD_HOME=tmp_path,
        DATABASE_URL=migrated_url,
        MODEL_ROOTS=(models,),
        HF_ENDPOINT=NOWHERE,
    )


def changed(settings: Settings, **fields: Any) -> Settings:
    """The same settings but for `fields`, given by their attribute names."""
    return settings.model_copy(update=fields)


@contextmanager
def serving(settings: Settings, database: Database, **headers: str) -> Iterator[Site]:
    """The app of these settings behind a client that talks to it in this process."""
    storage = open_storage(settings.storage_url)
    with TestClient(create_app(settings), base_url=LOCAL, headers=headers) as client:
        yield Site(client, database, storage)


@pytest.fixture
def site(api_settings: Settings, database: Database) -> Iterator[Site]:
    """The API with settings as they are by default."""
    with serving(api_settings, database) as site:
        yield site


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """A real server on a free port, in a thread; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, ws="none", log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            pause = threading.Event()
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                pause.wait(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def url(site: Site, api_settings: Settings) -> Iterator[str]:
    """Address of a real server beside `site`, over the same database and storage."""
    with listening(create_app(api_settings)) as url:
        yield url
