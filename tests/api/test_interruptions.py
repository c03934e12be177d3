"""Streams while something goes away under them: the server itself, or its database."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from app.main import create_app
from core.db import Database
from core.migrate import upgrade
from core.settings import Settings
from tests.api.conftest import JOBS, Site, line, listening, serving
from tests.servers.postgres import create_database

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20


@contextmanager
def _server_process(settings: Settings, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server as an operator starts it; its address and process."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "TUNEYARD_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    command += ["--timeout-graceful-shutdown", str(3 * PATIENCE_SECONDS)]
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        # Whoever connects before the server is up waits in the queue of this socket.
        handle = listener.fileno()
        process = subprocess.Popen(
            [*command, "--fd", str(handle)],
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=output,
            pass_fds=[handle],
        )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", process
        finally:
            process.kill()
            process.wait()


@contextmanager
def _stream(url: str, job_id: str) -> Iterator[Iterator[int]]:
    """The numbers of the events of a live stream."""
    headers = {"accept": "text/event-stream"}
    address = f"{url}{JOBS}/{job_id}/events"
    with httpx.stream("GET", address, headers=headers, timeout=PATIENCE_SECONDS) as response:
        lines = response.iter_lines()
        yield (int(text.removeprefix("id: ")) for text in lines if text.startswith("id: "))


@contextmanager
def _cut_off(server_url: str, url: str) -> Iterator[None]:
    """A database that ends all connections and takes no new ones."""
    name = make_url(url).database
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(text(end), {"name": name})
        yield
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    engine.dispose()


def test_a_stop_of_the_server_ends_its_streams_whole_and_at_once(
    site: Site, api_settings: Settings, tmp_path: Path
) -> None:
    lease = site.start()

    with _server_process(api_settings, tmp_path / "log") as (url, process):
        with _stream(url, lease.job_id) as numbers:
            begun = [next(numbers), next(numbers)]
            process.terminate()
            rest = list(numbers)
        process.wait(PATIENCE_SECONDS)

    assert (begun, rest) == ([1, 2], [])
    assert "graceful shutdown exceeded" not in (tmp_path / "log").read_text()


def test_a_stream_outlives_an_outage_of_the_database(
    postgres_server: str, tmp_path: Path, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(create_database(postgres_server, "outage"))
    upgrade(database)
    settings = Settings(TUNEYARD_HOME=tmp_path, DATABASE_URL=database.url, MODEL_ROOTS=(models,))

    with serving(settings, database) as site, listening(create_app(settings)) as url:
        lease = site.start()
        with _stream(url, lease.job_id) as numbers:
            begun = [next(numbers), next(numbers)]
            with _cut_off(postgres_server, database.url):
                pause = threading.Event()
                while "streams wait" not in caplog.text:
                    pause.wait(0.01)
            site.record(lease, line("after the outage"))
            site.succeed(lease)
            rest = list(numbers)
    database.close()

    assert [*begun, *rest] == [1, 2, 3, 4]


def test_a_client_that_leaves_in_its_body_is_no_error_of_the_server(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody reads the answer; the operator reads the log."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {JOBS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n{{"
    pause = threading.Event()
    with caplog.at_level("INFO"), socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
        while "the client is gone" not in caplog.text:
            pause.wait(0.01)

    assert not [record for record in caplog.records if record.levelname == "ERROR"]
