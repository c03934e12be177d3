"""The real service for a benchmark: `tuneyard up` in a folder and at a port of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from cli.embedded.broker import free_port

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 80
SETTINGS = ("TUNEYARD_", "DATABASE_", "REDIS_", "STORAGE_", "S3_", "WORKER_", "MODEL_ROOTS", "HF_")
"""Variables by which the caller's own installation would leak into the measurement."""

ROLES = {"uvicorn": "api", "celery": "worker", "multiprocessing.forkserver": "forkserver"}


@dataclass(frozen=True)
class Service:
    """A running service whose worker is warm."""

    process: subprocess.Popen[bytes]
    client: httpx.Client

    def upload(self, path: Path) -> str:
        """Upload a training file; its id."""
        with path.open("rb") as file:
            answer = self.client.post(
                "/v1/files", files={"file": file}, data={"purpose": "fine-tune"}
            )
        return str(_checked(answer)["id"])

    def submit(self, **body: Any) -> str:
        """Create a job; its id."""
        return str(_checked(self.client.post("/v1/fine_tuning/jobs", json=body))["id"])

    def events(self, job_id: str) -> Iterator[dict[str, Any]]:
        """A job's events from the first on, live until the job has ended."""
        url, accept = f"/v1/fine_tuning/jobs/{job_id}/events", {"accept": "text/event-stream"}
        with self.client.stream("GET", url, headers=accept, timeout=600) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield orjson.loads(line.removeprefix("data:"))

    def finish(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended; SystemExit unless it succeeded."""
        for _ in self.events(job_id):
            pass
        job = _checked(self.client.get(f"/v1/fine_tuning/jobs/{job_id}"))
        if job["status"] != "succeeded":
            raise SystemExit(f"The job ended as {job['status']}: {job['error']}")
        return job

    def cancel(self, job_id: str) -> None:
        """Cancel a job, and wait until it has ended."""
        _checked(self.client.post(f"/v1/fine_tuning/jobs/{job_id}/cancel"))
        for _ in self.events(job_id):
            pass

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The processes by what they are: api, worker, forkserver, child, and the others."""
        found: dict[str, list[psutil.Process]] = {}
        top = psutil.Process(self.process.pid)
        for process in [top, *top.children(recursive=True)]:
            found.setdefault(_role(process), []).append(process)
        return found


@contextmanager
def running_service(home: Path, *, models: Path) -> Iterator[Service]:
    """Broker, API and worker as a user starts them, ready and warm; all are gone afterwards."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(SETTINGS)}
    environment |= {"MODEL_ROOTS": str(models), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cli.embedded", "--home", str(home), "--port", str(port)]
    # The guard stops the service when this process is gone, however it ended.
    guard = [sys.executable, "-m", "cli.embedded.guard", str(STOP_SECONDS), "--"]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            guard + command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not process.stdout.readline():
            raise SystemExit(f"The service did not start. {(home / 'up.log').read_text()}")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Service(process, client)
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _role(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    if "cli.embedded" in words or "resource_tracker" in words:
        return "guards"
    role = next((role for word, role in ROLES.items() if word in words), "broker")
    # A child is a fork of the forkserver and has its command line.
    parent = process.parent()
    if role == "forkserver" and parent is not None and "forkserver" in " ".join(parent.cmdline()):
        return "child"
    return role


def _checked(answer: httpx.Response) -> dict[str, Any]:
    if answer.is_error:
        raise SystemExit(f"{answer.request.method} {answer.request.url}: {answer.text}")
    body: dict[str, Any] = answer.json()
    return body
