"""The real processes: broker, API and worker, each started as an operator would."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx

from cli.embedded.broker import free_port, prepare_broker
from core.db import Database
from core.migrate import upgrade

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Service:
    """A running service; its parts can be killed and started one by one."""

    home: Path
    environment: dict[str, str]
    port: int
    broker: list[str]
    celery_app: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a process with its output in a log file of its own."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment | environment,
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_broker(self) -> None:
        """Start the broker; after a kill it comes back at the same address."""
        self.start("broker", self.broker)

    def start_api(self) -> None:
        """Start the API and wait until it is ready."""
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
        self.start("api", [*command, "--port", str(self.port), "--timeout-graceful-shutdown", "3"])
        self._wait_until_ready()

    def start_worker(self, name: str = "worker") -> None:
        """Start a worker; it takes jobs when it is warm."""
        command = [sys.executable, "-m", "celery", "--quiet", "-A", self.celery_app, "worker"]
        command += ["-P", "threads", "-c", "1", "--loglevel", "INFO"]
        self.start(name, command, WORKER_NAME=name)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self, name: str) -> int:
        """SIGTERM; the exit code."""
        self.processes[name].terminate()
        return self.processes[name].wait()

    def log(self, name: str) -> str:
        """Everything that a process printed."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def _wait_until_ready(self) -> None:
        pause = Event()
        while True:
            assert self.processes["api"].poll() is None, self.log("api")
            try:
                if httpx.get(f"{self.url}/readyz").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            pause.wait(0.1)


@contextmanager
def running_service(
    home: Path,
    *,
    database_url: str,
    models: Path,
    celery_app: str = "worker.celery_app",
    **more: str,
) -> Iterator[Service]:
    """Broker, API and worker on `database_url`; all are gone afterwards."""
    database = Database(database_url)
    upgrade(database)
    database.close()
    broker, redis_url = prepare_broker(home / "broker")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TUNEYARD_HOME": str(home),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "MODEL_ROOTS": str(models),
        "LEASE_SECONDS": "4",
        "POLL_SECONDS": "0.5",
        "RETRY_BACKOFF_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
        **more,
    }
    service = Service(home, environment, free_port(), broker, celery_app)
    with ExitStack() as stack:
        stack.callback(_stop_all, service)
        service.start_broker()
        service.start_api()
        service.start_worker()
        yield service


def _stop_all(service: Service) -> None:
    for process in service.processes.values():
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
    for process in service.processes.values():
        process.wait()
