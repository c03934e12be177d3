"""A running service with everything around it that can be broken."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from sqlalchemy import select

from core.db import Database
from core.models import Worker
from core.storage import Storage, open_storage
from examples.tiny_model import make_tiny_model
from tests.servers.postgres import PostgresServer, create_database, start_postgres_server
from tests.servers.s3 import S3Server, start_s3
from tests.servers.service import Service, running_service
from worker.scratch import Scratch

WORKERS = ("worker", "worker-2")
LEASE_SECONDS = 2.0
SETTINGS = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "STALL_SECONDS": "4",
    "START_TIMEOUT_SECONDS": "45",
    "SHUTDOWN_GRACE_SECONDS": "20",
    "MAX_ATTEMPTS": "100",
    "MAX_LOST_ATTEMPTS": "10000",
    "DISK_RESERVE_BYTES": "0",
}
DISK_SIZE = "1500m"


@dataclass
class World:
    """The service, and the servers and the disk that it stands on."""

    service: Service
    database: Database
    storage: Storage
    postgres: PostgresServer | None = None
    s3: S3Server | None = None
    disk: Path | None = None
    """A file system that is the service's own, and so may be filled."""

    @property
    def home(self) -> Path:
        """The service's folder."""
        return self.service.home

    def wait_until_warm(self) -> None:
        """Wait until every worker looks for jobs, as one does that was started again."""
        pause = threading.Event()
        now = datetime.now(UTC)
        while not all(at > now for at in self._heartbeats()):
            pause.wait(0.2)

    def training_children(self, *workers: str) -> list[psutil.Process]:
        """The forks that train: sessions of their own below these workers, or below any."""
        found: list[psutil.Process] = []
        for name in workers or WORKERS:
            try:
                below = psutil.Process(self.service.processes[name].pid).children(recursive=True)
                found += [child for child in below if os.getsid(child.pid) == child.pid]
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return found

    def children_left(self) -> list[psutil.Process]:
        """What trains for this service, whoever its parent is by now."""
        return [process for process in psutil.process_iter() if self._trains(process)]

    def scratch_left(self) -> list[str]:
        """What is left in the scratch folders of workers once another worker has started."""
        attempts = self.home / "scratch" / "attempts"
        Scratch(attempts).close()
        return sorted(path.name for path in attempts.iterdir())

    def _heartbeats(self) -> list[datetime]:
        with self.database.read() as session:
            found = {row.name: row.heartbeat_at for row in session.scalars(select(Worker))}
        return [found.get(name, datetime.min.replace(tzinfo=UTC)) for name in WORKERS]

    def _trains(self, process: psutil.Process) -> bool:
        try:
            environment = process.environ()
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            return False
        offline = environment.get("HF_HUB_OFFLINE") == "1"
        return offline and str(self.home) in environment.get("HOME", "")


@contextmanager
def running_world(
    kind: str, folder: Path, *, celery_app: str = "worker.celery_app"
) -> Iterator[World]:
    """`sqlite` with a folder as storage, or `postgresql` with S3; two workers, all gone after."""
    models = folder / "models"
    make_tiny_model("llama", models / "tiny-llama")
    with ExitStack() as stack:
        make = _on_one_disk if kind == "sqlite" else _on_servers
        yield stack.enter_context(make(folder, models, celery_app))


@contextmanager
def _on_one_disk(folder: Path, models: Path, celery_app: str) -> Iterator[World]:
    """Database, storage and scratch on a small disk, where this process may make one."""
    with _small_disk(folder / "disk") as (home, is_ours):
        url = f"sqlite:///{home / 'tuneyard.db'}"
        with _service(home, url, models, celery_app) as (service, database):
            storage = open_storage(f"file://{home / 'storage'}")
            yield World(service, database, storage, disk=home if is_ours else None)


@contextmanager
def _on_servers(folder: Path, models: Path, celery_app: str) -> Iterator[World]:
    home, data = folder / "home", folder / "s3"
    home.mkdir(parents=True)
    data.mkdir(parents=True)
    with ExitStack() as stack:
        # Not below pytest's folder: each new pytest takes the right to enter it from the server.
        data_folder = stack.enter_context(TemporaryDirectory(prefix="tuneyard-postgres-"))
        postgres = stack.enter_context(start_postgres_server(Path(data_folder) / "data"))
        s3 = stack.enter_context(start_s3(data))
        storage = open_storage(
            "s3://tuneyard-chaos/run",
            s3_endpoint=s3.endpoint,
            s3_access_key=s3.access_key,
            s3_secret_key=s3.secret_key,
        )
        storage.check_access()
        settings = {
            "STORAGE_URL": "s3://tuneyard-chaos/run",
            "S3_ENDPOINT_URL": s3.endpoint,
            "S3_ACCESS_KEY_ID": s3.access_key,
            "S3_SECRET_ACCESS_KEY": s3.secret_key,
        }
        url = create_database(postgres.url, "chaos")
        running = _service(home, url, models, celery_app, **settings)
        service, database = stack.enter_context(running)
        yield World(service, database, storage, postgres=postgres, s3=s3)


@contextmanager
def _service(
    home: Path, url: str, models: Path, celery_app: str, **settings: str
) -> Iterator[tuple[Service, Database]]:
    database = Database(url)
    try:
        with running_service(
            home, database_url=url, models=models, celery_app=celery_app, **SETTINGS, **settings
        ) as service:
            for name in WORKERS[1:]:
                service.start_worker(name)
            yield service, database
    finally:
        database.close()


@contextmanager
def _small_disk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """A file system in memory; a plain folder for those who may not mount one."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "none", str(folder)]
    may_mount = sys.platform == "linux" and shutil.which("mount") is not None
    is_ours = may_mount and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder, is_ours
    finally:
        if is_ours:
            # Lazily: a process that is still ending may have a file of it open.
            subprocess.run(["umount", "-l", str(folder)], check=True)
