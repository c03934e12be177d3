"""The API alone, in a process of its own, over a database that a benchmark has filled."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.embedded.broker import free_port
from core.db import Database
from core.migrate import upgrade
from tests.servers.postgres import create_database, start_postgres

ROOT = Path(__file__).resolve().parents[1]
DATABASES = ("sqlite", "postgresql")
START_SECONDS = 30


@dataclass(frozen=True)
class Api:
    """A running API without a worker."""

    url: str
    pid: int

    def client(self) -> httpx.Client:
        """A client with one connection that is kept."""
        return httpx.Client(base_url=self.url, timeout=60)


@contextmanager
def empty_database(kind: str, home: Path) -> Iterator[str]:
    """URL of a database of this kind at the newest schema; a server of its own for PostgreSQL."""
    if kind == "sqlite":
        yield _migrated(f"sqlite:///{home / 'tuneyard.db'}")
        return
    with start_postgres(home / "postgres") as server:
        yield _migrated(create_database(server, "benchmark"))


@contextmanager
def running_api(home: Path, database_url: str, **settings: str) -> Iterator[Api]:
    """Start the API as an operator does; it is gone afterwards."""
    port = free_port()
    environment = {
        "TUNEYARD_HOME": str(home),
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    command += ["--port", str(port), "--log-level", "warning", "--no-access-log"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            api = Api(f"http://127.0.0.1:{port}", server.pid)
            _wait_until_ready(api)
            yield api
        finally:
            server.terminate()


def _migrated(url: str) -> str:
    database = Database(url)
    upgrade(database)
    database.close()
    return url


def _wait_until_ready(api: Api) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"{api.url}/healthz").is_success:
                return
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
