"""Runs work on hostile input in a process of its own: limits on time and memory, and walls.

    answer = run_isolated("core.dataset.parquet_check", {...}, limits, reads=[path])

The module's `main` is `serve(work)`: it takes one JSON object on stdin and answers with another.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from core.errors import (
    Invalid,
    InvalidArgument,
    InvalidFile,
    InvalidModel,
    InvalidTemplate,
    TuneyardError,
)
from core.sandbox import enter_sandbox, landlock_version

MIB = 1024**2
KEPT = ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV", "SYSTEMROOT")
"""Variables of the environment that such a process sees: none is a secret."""
ERRORS: Mapping[str, type[TuneyardError]] = {
    cls.__name__: cls
    for cls in (Invalid, InvalidArgument, InvalidFile, InvalidModel, InvalidTemplate)
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What such a process may take."""

    seconds: float
    memory_bytes: int


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
    with TemporaryDirectory(prefix="tuneyard-") as scratch:
        envelope = {
            "request": request,
            "limits": asdict(limits),
            "reads": [str(path.resolve()) for path in reads],
            "scratch": scratch,
        }
        done = _run(module, envelope, limits)
    try:
        answer: dict[str, Any] = orjson.loads(done.stdout)
    except orjson.JSONDecodeError as error:
        if done.returncode == -signal.SIGXCPU:
            raise Exhausted("time") from error
        # Native code that gets no memory ends in many ways: abort, a fault, a kill.
        if done.returncode < 0:
            raise Exhausted("memory") from error
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{module} failed with code {done.returncode}: {said}") from error
    if "error" in answer:
        raise _raised(answer["error"])
    result: dict[str, Any] = answer["result"]
    return result


def _run(
    module: str, envelope: dict[str, Any], limits: Limits
) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            [sys.executable, "-m", module],
            input=orjson.dumps(envelope),
            capture_output=True,
            timeout=limits.seconds,
            env=_environment() | {"TMPDIR": envelope["scratch"]},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Exhausted("time") from error


def serve(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer the one request that came on stdin."""
    envelope = orjson.loads(sys.stdin.buffer.read())
    _limit(Limits(**envelope["limits"]))
    if landlock_version():
        enter_sandbox(readable=map(Path, envelope["reads"]), writable=Path(envelope["scratch"]))
    try:
        answer: dict[str, Any] = {"result": work(envelope["request"])}
    except MemoryError:
        answer = {"error": {"type": "MemoryError"}}
    except Invalid as error:
        answer = {
            "error": {
                "type": type(error).__name__,
                "message": error.message,
                "param": error.param,
                "details": error.details,
            }
        }
    sys.stdout.buffer.write(orjson.dumps(answer))
    sys.stdout.flush()
    # Threads of native libraries need not be waited for.
    os._exit(0)


def _limit(limits: Limits) -> None:
    seconds = int(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def _raised(error: dict[str, Any]) -> Exception:
    if error["type"] == "MemoryError":
        return Exhausted("memory")
    details = error.get("details") or {}
    return ERRORS.get(error["type"], Invalid)(error["message"], param=error["param"], **details)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    # Each thread of these would reserve memory that counts against the limit.
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
