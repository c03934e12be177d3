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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cli.embedded.broker import prepare_broker
from cli.embedded.part import Part
from cli.errors import UserError

START_SECONDS = 120.0
LOOK_SECONDS = 0.2
API_GRACE_SECONDS = 8.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Options:
    """What the command line and the environment say."""

    home: Path
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where clients find the service."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


def run(options: Options) -> int:
    """Start everything, print one line when it is ready, and stop it all when asked to."""
    _check(options)
    with _only_one(options.home):
        stop = _Stop()
        parts = _parts(options)
        try:
            _start(parts, options, stop)
            while not stop.is_asked:
                time.sleep(LOOK_SECONDS)
                for part in parts:
                    _say(part.tend())
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


def _check(options: Options) -> None:
    if options.host not in LOOPBACK and not os.environ.get("TUNEYARD_API_KEY"):
        raise UserError(
            f"Listening on {options.host} would let other machines in without a key.",
            "Set TUNEYARD_API_KEY to a long random text, or leave out --host.",
        )
    with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((options.host, options.port))
        except OSError as error:
            raise UserError(
                f"Port {options.port} on {options.host} cannot be used: {error.strerror}.",
                f"Another one: tuneyard up --port {options.port + 1}",
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


def _parts(options: Options) -> list[Part]:
    """Broker, API and worker, in the order in which they start."""
    home, environment = options.home, _environment(options)
    parts = []

    def add(name: str, command: list[str], grace: float) -> None:
        log = home / "logs" / f"{name}.log"
        parts.append(Part(name, command, log, environment, grace))

    if not environment.get("REDIS_URL"):
        command, environment["REDIS_URL"] = prepare_broker(home / "broker")
        add("broker", command, API_GRACE_SECONDS)
    add("api", _api_command(options), API_GRACE_SECONDS)
    grace = float(environment.get("SHUTDOWN_GRACE_SECONDS", "60")) + 10
    add("worker", _worker_command(environment), grace)
    return parts


def _environment(options: Options) -> dict[str, str]:
    environment = dict(os.environ)
    models = options.home / "models"
    models.mkdir(exist_ok=True)
    environment["TUNEYARD_HOME"] = str(options.home)
    environment.setdefault("MODEL_ROOTS", str(models))
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _api_command(options: Options) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    command += ["--host", options.host, "--port", str(options.port)]
    return [*command, "--no-access-log", "--timeout-graceful-shutdown", "5"]


def _worker_command(environment: dict[str, str]) -> list[str]:
    slots = environment.get("WORKER_SLOTS", "1")
    command = [sys.executable, "-m", "celery", "--quiet", "-A", "worker.celery_app", "worker"]
    return [*command, "-P", "threads", "-c", slots, "--loglevel", "INFO", "--without-gossip"]


def _start(parts: list[Part], options: Options, stop: _Stop) -> None:
    environment = dict(parts[-1].environment)
    log = options.home / "logs" / "migrate.log"
    migrate = [sys.executable, "-m", "cli.database", "upgrade"]
    migration = Part("database", migrate, log, environment, API_GRACE_SECONDS)
    migration.start()
    assert migration.process is not None
    if migration.process.wait() != 0:
        raise UserError("The database could not be made ready.", migration.last_lines(4))
    since = time.time()
    for part in parts:
        part.start()
    deadline = time.monotonic() + START_SECONDS
    while not stop.is_asked and not _is_ready(options, since):
        _check_alive(parts)
        if time.monotonic() > deadline:
            raise UserError("The service did not get ready.", f"See {options.home / 'logs'}")
        time.sleep(LOOK_SECONDS)
    if not stop.is_asked:
        sys.stdout.write(f"Tuneyard is ready: {options.url}  (API docs: {options.url}/docs)\n")
        sys.stdout.flush()


def _check_alive(parts: list[Part]) -> None:
    for part in parts:
        if part.has_failed_to_start():
            raise UserError(
                f"The {part.name} did not start. The end of {part.log}:", part.last_lines()
            )


def _is_ready(options: Options, since: float) -> bool:
    """Whether the API answers and a worker has reported itself after `since`, unix seconds."""
    if _get(f"{options.url}/readyz") is None:
        return False
    workers = _get(f"{options.url}/v1/workers") or {"data": []}
    return any(worker["heartbeat_at"] >= int(since) for worker in workers["data"])


def _get(url: str) -> Any:
    key = os.environ.get("TUNEYARD_API_KEY", "none")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return None


def _say(line: str | None) -> None:
    if line is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
