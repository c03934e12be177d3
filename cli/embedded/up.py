"""`tuneyard up`: API, worker and broker on SQLite and a folder, until Ctrl-C."""

import fcntl
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from cli.embedded.broker import prepare_broker
from cli.embedded.part import Part
from cli.errors import UserError
from core.settings import Settings

START_SECONDS = 120.0
LOOK_SECONDS = 0.2
API_GRACE_SECONDS = 8.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Without -P a folder named `app` or `core` where the user happens to be would be taken for ours.
PYTHON = (sys.executable, "-P", "-m")


def run(settings: Settings) -> int:
    """Start everything, print one line when it is ready, and stop it all when asked to."""
    with _only_one(settings.home):
        _check(settings)
        stop = _Stop()
        parts = _parts(settings)
        try:
            _start(parts, settings, stop)
            while not stop.is_asked:
                time.sleep(LOOK_SECONDS)
                for part in parts:
                    _say(part.tend())
                    _say(part.new_warnings())
        finally:
            # The worker goes first: it saves its jobs while the others are still there.
            for part in reversed(parts):
                part.stop()
    _say("stopped")
    return 0


class _Stop:
    """Ctrl-C and SIGTERM ask politely; a second one changes nothing, since stopping is bounded."""

    def __init__(self) -> None:
        self.is_asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if not self.is_asked:
            _say("stopping; a running job saves a checkpoint first")
        self.is_asked = True


def _check(settings: Settings) -> None:
    if settings.host not in LOOPBACK and settings.api_key is None:
        raise UserError(
            f"Listening on {settings.host} would let other machines in without a key.",
            "Set TUNEYARD_API_KEY to a long random text, or leave out --host.",
        )
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UserError(
                f"Port {settings.port} on {settings.host} cannot be used: {error.strerror}.",
                "Take another one with --port.",
            ) from error


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One `up` for each home: two would tend the same files."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UserError(
                f"Tuneyard already runs from {home} (process {lock.read().strip() or '?'}).",
                "Stop that one, or choose another folder with --home.",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _parts(settings: Settings) -> list[Part]:
    """Broker, API and worker, in the order in which they start."""
    environment = _environment(settings)
    parts = []

    def add(name: str, command: list[str], grace_seconds: float) -> None:
        parts.append(Part(name, command, settings.home, environment, grace_seconds))

    if settings.redis_url is None:
        command, environment["REDIS_URL"] = prepare_broker(settings.home / "broker")
        add("broker", command, API_GRACE_SECONDS)
    add("api", _api_command(settings), API_GRACE_SECONDS)
    add("worker", _worker_command(settings), settings.shutdown_grace_seconds + 10)
    return parts


def _environment(settings: Settings) -> dict[str, str]:
    """That of the parts. They run in `home`, so what is relative to this folder is spelt out."""
    models = settings.home / "models"
    models.mkdir(exist_ok=True)
    roots = settings.model_roots or (models,)
    paths = {
        "TUNEYARD_HOME": str(settings.home),
        "MODEL_ROOTS": ":".join(str(root.absolute()) for root in roots),
        "PYTHONUNBUFFERED": "1",
    }
    if settings.scratch is not None:
        paths["TUNEYARD_SCRATCH"] = str(settings.scratch.absolute())
    scheme, is_sqlite, file = settings.database_url.partition("sqlite:///")
    if is_sqlite:
        paths["DATABASE_URL"] = f"{scheme}{is_sqlite}{Path(file).absolute()}"
    return dict(os.environ) | paths


def _api_command(settings: Settings) -> list[str]:
    command = [*PYTHON, "uvicorn", "--factory", "app.main:create_app"]
    command += ["--host", settings.host, "--port", str(settings.port)]
    return [*command, "--no-access-log", "--timeout-graceful-shutdown", "5"]


def _worker_command(settings: Settings) -> list[str]:
    command = [*PYTHON, "celery", "--quiet", "-A", "worker.celery_app", "worker", "-P", "threads"]
    return [*command, "-c", str(settings.worker_slots), "--loglevel", "INFO", "--without-gossip"]


def _start(parts: list[Part], settings: Settings, stop: _Stop) -> None:
    migrate = [*PYTHON, "cli.database", "upgrade"]
    migration = Part("database", migrate, settings.home, parts[-1].environment, API_GRACE_SECONDS)
    migration.start()
    if migration.wait() != 0:
        raise UserError("The database could not be made ready.", migration.last_lines(4))
    since = time.time()
    for part in parts:
        part.start()
    deadline = time.monotonic() + START_SECONDS
    while not stop.is_asked and not _is_ready(settings, since):
        _check_alive(parts)
        if time.monotonic() > deadline:
            raise UserError("The service did not get ready.", f"See {parts[-1].log.parent}")
        time.sleep(LOOK_SECONDS)
    if not stop.is_asked:
        url = _url(settings)
        sys.stdout.write(f"Tuneyard is ready: {url}  (API docs: {url}/docs)\n")
        sys.stdout.flush()


def _check_alive(parts: list[Part]) -> None:
    for part in parts:
        if part.has_failed_to_start():
            raise UserError(
                f"The {part.name} did not start. The end of {part.log}:", part.last_lines()
            )


def _is_ready(settings: Settings, since: float) -> bool:
    """Whether the API answers and a worker has reported itself after `since`, unix seconds."""
    if _get(settings, "/readyz") is None:
        return False
    workers = _get(settings, "/v1/workers") or {"data": []}
    return any(worker["heartbeat_at"] >= int(since) for worker in workers["data"])


def _get(settings: Settings, path: str) -> Any:
    headers = {"Authorization": f"Bearer {settings.api_key or 'none'}"}
    request = urllib.request.Request(f"{_url(settings)}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def _url(settings: Settings) -> str:
    """Where clients on this machine find the service."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _say(line: str | None) -> None:
    if line is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
