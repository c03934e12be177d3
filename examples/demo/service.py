"""The service that the demo talks to: the one that runs already, or one for its own time."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from examples.demo.failure import DemoFailure

DEFAULT_PORT = 8080
STOP_SECONDS = 80
SILENT_WORKER_SECONDS = 60


@dataclass(frozen=True)
class Service:
    """Where the service is, and whether it runs for the demo alone."""

    url: str
    is_ours: bool


def http_client(url: str) -> httpx.Client:
    """A client for the service at `url`, with the key of TUNEYARD_API_KEY."""
    return httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {api_key()}"},
        timeout=httpx.Timeout(60, connect=5),
    )


def default_url() -> str:
    """Where `make up` listens."""
    return f"http://127.0.0.1:{_default_port()}"


def api_key() -> str:
    """The key to send; a service without one takes any."""
    return os.environ.get("TUNEYARD_API_KEY") or "none"


@contextmanager
def running_service(home: Path) -> Iterator[Service]:
    """The service at TUNEYARD_URL; else the one at the default address; else a new one."""
    wanted = os.environ.get("TUNEYARD_URL", "").rstrip("/")
    url = wanted or default_url()
    if _is_tuneyard(url):
        yield Service(url, is_ours=False)
    elif wanted:
        raise DemoFailure(
            f"No Tuneyard answers at {url}.",
            "Start it, or unset TUNEYARD_URL to let the demo start one by itself.",
        )
    else:
        with _started(home, _free_port()) as url:
            yield Service(url, is_ours=True)


def check_usable(service: Service, model: str, folder: Path) -> None:
    """DemoFailure if the service does not have the model, or nobody who would train it."""
    with http_client(service.url) as client:
        models = [item["id"] for item in _get(client, "/v1/models")]
        ages = [item["heartbeat_age_seconds"] for item in _get(client, "/v1/workers")]
    if model not in models:
        raise DemoFailure(
            f"The service at {service.url} does not have {model}.",
            f"It keeps its models elsewhere: add {folder.parent} to its MODEL_ROOTS, or stop it "
            "and let the demo start one by itself.",
        )
    if not any(age < SILENT_WORKER_SECONDS for age in ages):
        raise DemoFailure(f"The service at {service.url} has no worker, so nothing would train.")


def _is_tuneyard(url: str) -> bool:
    try:
        with http_client(url) as client:
            answer = client.get("/v1/workers")
    except httpx.HTTPError:
        return False
    except httpx.InvalidURL as error:
        raise DemoFailure(f"TUNEYARD_URL is no address: {url}") from error
    if answer.status_code in (401, 403) and "x-request-id" in answer.headers:
        raise DemoFailure(
            f"The service at {url} does not take this key.", "Set TUNEYARD_API_KEY to its key."
        )
    return answer.is_success and "data" in answer.text


def _get(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    try:
        answer = client.get(path).raise_for_status()
    except httpx.HTTPError as error:
        raise DemoFailure(f"The service did not answer {path}: {error}") from error
    items: list[dict[str, Any]] = answer.json()["data"]
    return items


def _default_port() -> int:
    text = os.environ.get("TUNEYARD_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise DemoFailure(f"TUNEYARD_PORT is no port: {text}")
    return int(text)


def _free_port() -> int:
    """The default port, or any other if somebody has that one."""
    for port in (_default_port(), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoFailure("There is no free port on 127.0.0.1.")


@contextmanager
def _started(home: Path, port: int) -> Iterator[str]:
    """`tuneyard up` for as long as this lasts; it ends with us however we end."""
    command = [str(Path(sys.executable).with_name("tuneyard")), "up"]
    command += ["--home", str(home), "--host", "127.0.0.1", "--port", str(port)]
    guard = [sys.executable, "-m", "cli.embedded.guard", str(STOP_SECONDS), "--"]
    log = home / "logs" / "demo-up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as errors:
        process = subprocess.Popen(
            guard + command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"MODEL_ROOTS": str(home / "models")},
            start_new_session=True,  # Ctrl-C is for the demo, which stops the service itself
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # One line when it is ready; nothing when it ended before.
        if not process.stdout.readline():
            said = log.read_text(errors="replace").strip().removeprefix("Error: ")
            raise DemoFailure(f"The service did not start. {said}", f"Its logs: {log.parent}")
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The guard asks `up` to stop when we close its input, and kills it when it will not."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS + 10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process.stdout.close()
