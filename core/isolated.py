"""Runs work on hostile input in a process of its own: limits on time and memory, and walls.

    answer = run_isolated("core.dataset.parquet_check", {...}, limits, reads=[path])

The module has `work(request, chunks)`, which answers with a JSON object; `chunks` is what `feed`
was given. Such a process is forked from one that this module starts, see `core.forker`.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import orjson

from core.errors import (
    Invalid,
    InvalidArgument,
    InvalidFile,
    InvalidModel,
    InvalidTemplate,
    TuneyardError,
    Unavailable,
)
from core.forker import CHUNK_BYTES, LENGTH_BYTES

PRELOADED = (
    "core.dataset.parquet_check",
    "core.dataset.template_check",
    "core.dataset.upload_check",
)
"""Modules that are imported before they are needed. None of them may start a thread."""
KEPT = ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV", "SYSTEMROOT")
"""Variables of the environment that such a process sees: none is a secret."""
MAX_ANSWER_BYTES = 64 * 1024**2
END_SECONDS = 10
"""From an answer to the end of the process that gave it."""
ERRORS: Mapping[str, type[TuneyardError]] = {
    cls.__name__: cls
    for cls in (Invalid, InvalidArgument, InvalidFile, InvalidModel, InvalidTemplate)
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What such a process may take."""

    seconds: float
    """For the answer, and for each piece of its input."""
    memory_bytes: int
    cpu_seconds: float | None = None
    """Of computing, all in all; null: as many."""


class Exhausted(Exception):
    """The work took more time or memory than it may."""

    def __init__(self, what: str):
        self.what = what
        """`time` or `memory`."""
        super().__init__(what)


def run_isolated(
    module: str, request: dict[str, Any], limits: Limits, *, reads: Sequence[Path]
) -> dict[str, Any]:
    """The module's answer. Its errors are raised here; Exhausted when it went beyond its limits.

    Where the kernel has walls, the process sees nothing but the paths that it reads and a
    folder for its temporary files, and reaches no network.
    """
    with Isolated(module, request, limits, reads=reads) as work:
        return work.finish()


class Isolated:
    """Work that may be fed while it runs. It is killed when its `with` ends."""

    def __init__(
        self, module: str, request: dict[str, Any], limits: Limits, *, reads: Sequence[Path] = ()
    ):
        self._module, self._limits = module, limits
        self._is_late = self._is_deaf = False
        self._scratch = TemporaryDirectory(prefix="tuneyard-")
        try:
            self._pipe, self._leash = _FORKER.fork()
        except BaseException:
            self._scratch.cleanup()
            raise
        self._pipe.settimeout(limits.seconds)
        envelope = {
            "module": module,
            "request": request,
            "limits": {
                "cpu_seconds": limits.cpu_seconds or limits.seconds,
                "memory_bytes": limits.memory_bytes,
            },
            "reads": [str(path.resolve()) for path in reads],
            "scratch": self._scratch.name,
        }
        text = orjson.dumps(envelope)
        self.feed(len(text).to_bytes(LENGTH_BYTES, "big") + text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pipe.close()
        self._leash.close()
        self._scratch.cleanup()

    def feed(self, chunk: bytes) -> None:
        """Hand over a piece of the input. What happened to the process `finish` tells."""
        if self._is_late or self._is_deaf:
            return
        try:
            self._pipe.sendall(chunk)
        except TimeoutError:
            self._is_late = True
        except OSError:
            self._is_deaf = True

    def finish(self) -> dict[str, Any]:
        """The answer, after the last piece; errors are those of `run_isolated`."""
        if self._is_late:
            raise Exhausted("time")
        with suppress(OSError):
            self._pipe.shutdown(socket.SHUT_WR)
        try:
            answer: dict[str, Any] = orjson.loads(self._read())
        except TimeoutError as error:
            raise Exhausted("time") from error
        except orjson.JSONDecodeError as error:
            raise self._failure() from error
        if "error" in answer:
            raise self._raised(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> bytes:
        found = bytearray()
        until = time.monotonic() + self._limits.seconds
        while len(found) <= MAX_ANSWER_BYTES:
            self._pipe.settimeout(max(0.001, until - time.monotonic()))
            try:
                part = self._pipe.recv(CHUNK_BYTES)
            except ConnectionResetError:
                part = b""
            if not part:
                return bytes(found)
            found += part
        raise Exhausted("memory")

    def _failure(self) -> Exception:
        """Why there is no answer."""
        self._leash.settimeout(END_SECONDS)
        try:
            code = int(self._leash.recv(100) or b"?")
        except (OSError, ValueError):
            return Unavailable("What reads files here has ended. Try again in a moment.")
        if code == -signal.SIGXCPU:
            return Exhausted("time")
        # Native code that gets no memory ends in many ways: abort, a fault, a kill.
        if code < 0:
            return Exhausted("memory")
        return RuntimeError(f"{self._module} failed with code {code}")

    def _raised(self, error: dict[str, Any]) -> Exception:
        if error["type"] == "MemoryError":
            return Exhausted("memory")
        if error["type"] == "failure":
            return RuntimeError(f"{self._module} failed: {error['message']}")
        details = error.get("details") or {}
        return ERRORS.get(error["type"], Invalid)(error["message"], param=error["param"], **details)


def forker_pid() -> int | None:
    """The process that is forked, which stays for the next work."""
    return _FORKER.pid


class _Forker:
    """The process that is forked, started when it is first needed, and again if it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Its number while it runs."""
        return self._process.pid if self._process is not None else None

    def fork(self) -> tuple[socket.socket, socket.socket]:
        """A new process: what to talk to it by, and what tells how it ended."""
        ours, theirs = socket.socketpair()
        leash, its_leash = socket.socketpair()
        with theirs, its_leash:
            try:
                self._send([theirs.fileno(), its_leash.fileno()])
            except BaseException:
                ours.close()
                leash.close()
                raise
        return ours, leash

    def _send(self, descriptors: list[int]) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [b"f"], descriptors)
            except OSError:
                self._start()
                socket.send_fds(self._control, [b"f"], descriptors)

    def _start(self) -> None:
        self.close()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "core.forker", *PRELOADED],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                # Ctrl-C is for whoever started it.
                start_new_session=True,
            )

    def close(self) -> None:
        """End it, and what it has forked."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    # Each thread of these would reserve memory that counts against the limit.
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


_FORKER = _Forker()
atexit.register(_FORKER.close)
